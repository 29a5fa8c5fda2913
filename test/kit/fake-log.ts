// The managers' shared log in one process, for tests: entries in one order, a leader per term, and faults on demand.
// It keeps what the real one promises and no more: followers apply later, answers can be lost.

import { ClusterError } from "../../lib/mod.js";
import type { Tenure } from "../../manager/store/leadership.js";
import type { StoreLog } from "../../manager/store/raft/log.js";
import type { RaftStore } from "../../manager/store/raft/raft.js";

interface Entry {
  term: number;
  data: Uint8Array;
}

/** What happens to the next proposals instead of being made and answered. */
export type Fault =
  /** Made, but leadership is lost before the answer. */
  | "made"
  /** Gone with the leadership. */
  | "lost"
  /** Comes into the log later, before the first entry of the next leader. */
  | "late"
  /** Neither made nor answered while leadership stays. */
  | "stuck"
  | undefined;

export class FakeLog {
  readonly entries: Entry[] = [];
  readonly members: FakeMember[] = [];
  fault: Fault;
  term = 0;
  leader: FakeMember | undefined;
  #late: Entry[] = [];

  /** A member whose machine is the store's; the first one leads. */
  join(store: RaftStore): FakeMember {
    const member = this.add(store.machine);
    store.attach(member);
    return member;
  }

  add(machine: RaftStore["machine"]): FakeMember {
    const member = new FakeMember(this, this.members.length + 1, machine);
    this.members.push(member);
    if (this.leader === undefined) this.elect(member);
    return member;
  }

  elect(member: FakeMember): void {
    this.depose();
    this.term += 1;
    this.entries.push(...this.#late);
    this.#late = [];
    this.leader = member;
    member.catchUp();
    member.lead(this.term);
    this.tell();
  }

  /** Nobody leads. */
  depose(): void {
    const old = this.leader;
    this.leader = undefined;
    old?.step();
    this.tell();
  }

  tell(): void {
    for (const member of this.members) member.changed();
  }

  take(member: FakeMember, data: Uint8Array): Promise<unknown> {
    const { fault, term } = this;
    if (this.leader !== member)
      return Promise.reject(new ClusterError("not_leader", "it does not lead", { details: { leader: "" } }));
    if (fault === "stuck") return new Promise(() => undefined);
    if (fault === undefined || fault === "made") this.entries.push({ term, data });
    if (fault === "late") this.#late.push({ term, data });
    if (fault === undefined) return Promise.resolve().then(() => member.catchUp());
    this.fault = undefined;
    this.depose();
    return Promise.reject(new ClusterError("unknown_outcome", "leadership was lost before the answer"));
  }
}

export class FakeMember implements StoreLog {
  readonly self: { id: number; address: string };
  readonly #log: FakeLog;
  readonly #machine: RaftStore["machine"];
  readonly #listeners = new Set<() => void>();
  #tenure: { term: number; ending: AbortController } | undefined;
  applied = 0;

  constructor(log: FakeLog, id: number, machine: RaftStore["machine"]) {
    this.#log = log;
    this.#machine = machine;
    this.self = { id, address: `192.0.2.${id}:7400` };
  }

  leader(): { id: number; address: string } | undefined {
    return this.#log.leader?.self;
  }

  tenure(): Tenure | undefined {
    return this.#tenure && { epoch: 1, term: this.#tenure.term, signal: this.#tenure.ending.signal };
  }

  status(): { term: number } {
    return { term: this.#log.term };
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  health(): { ready: boolean; message: string } {
    return this.#log.leader === undefined
      ? { ready: false, message: "raft: no leader" }
      : { ready: true, message: "raft: ready" };
  }

  propose(data: Uint8Array): Promise<unknown> {
    return this.#log.take(this, data);
  }

  barrier(signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason as Error);
    if (this.#log.leader === undefined) return Promise.reject(new ClusterError("unavailable", "raft: no leader"));
    this.catchUp();
    return Promise.resolve();
  }

  /** Applies what is in the log; the answer is that of the last entry. */
  catchUp(upTo = this.#log.entries.length): unknown {
    let answer: unknown;
    for (; this.applied < upTo; this.applied += 1) {
      const entry = this.#log.entries[this.applied];
      if (entry !== undefined) answer = this.#machine.apply({ index: this.applied + 1, ...entry });
    }
    return answer;
  }

  lead(term: number): void {
    this.#tenure = { term, ending: new AbortController() };
  }

  step(): void {
    this.#tenure?.ending.abort();
    this.#tenure = undefined;
  }

  changed(): void {
    for (const listener of Array.from(this.#listeners)) listener();
  }
}
