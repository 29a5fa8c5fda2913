// One manager without consensus: for the store in memory, which is a trial and nothing else. It always leads.

import { ClusterError } from "../../lib/mod.js";
import type { ClusterStatus } from "../../proto/gen/flotilla/control/v1/control.js";
import type { Consensus, Member, Tenure } from "./consensus.js";

export interface SoloOptions {
  clusterName: string;
  name: string;
  address: string;
  httpAddress: string;
}

export class SoloConsensus implements Consensus {
  readonly clusterId = "memory";
  readonly clusterName: string;
  readonly epoch = 0;
  readonly self: Member;
  readonly #controller = new AbortController();
  readonly #tenure: Tenure;

  constructor({ clusterName, name, address, httpAddress }: SoloOptions) {
    this.clusterName = clusterName;
    this.self = { id: 1, name, address, httpAddress, nonce: "", learner: false };
    this.#tenure = { term: 1, epoch: 0, signal: this.#controller.signal };
  }

  members(): readonly Member[] {
    return [this.self];
  }

  leader(): Member | undefined {
    return this.self;
  }

  tenure(): Tenure | undefined {
    return this.#controller.signal.aborted ? undefined : this.#tenure;
  }

  onChange(): () => void {
    return () => undefined;
  }

  health(): { ready: boolean; message: string } {
    return { ready: true, message: "alone" };
  }

  propose(): Promise<unknown> {
    return Promise.reject(alone("has no log"));
  }

  barrier(signal?: AbortSignal): Promise<void> {
    return signal?.aborted === true ? Promise.reject(signal.reason as Error) : Promise.resolve();
  }

  status(): ClusterStatus {
    const { id, name, address } = this.self;
    return {
      clusterId: this.clusterId,
      cluster: this.clusterName,
      store: "memory",
      epoch: 0,
      term: 1,
      leaderId: id,
      commitIndex: 0,
      appliedIndex: 0,
      revision: 0,
      managers: [
        {
          id,
          name,
          address,
          voter: true,
          leader: true,
          reachable: true,
          replication: "replicate",
          matchIndex: 0,
          lag: 0,
        },
      ],
      writable: true,
      message: "",
      answeredBy: id,
    };
  }

  removeManager(): Promise<Member> {
    return Promise.reject(alone("is the only one"));
  }

  transferLeadership(manager: string): Promise<void> {
    const { id, name, address } = this.self;
    const isSelf = manager === String(id) || manager === name || manager === address;
    return isSelf ? Promise.resolve() : Promise.reject(alone("is the only one"));
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#controller.abort(new ClusterError("unavailable", "this manager is stopping"));
    return Promise.resolve();
  }
}

function alone(what: string): ClusterError {
  return new ClusterError("failed_precondition", `a manager with --store memory ${what}: its cluster cannot change`);
}
