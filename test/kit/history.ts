// Users of a cluster's memory, at a fixed rate, and what they saw: for checking that nothing acknowledged was lost,
// nothing was done twice, and that all of it could have happened one after another.

import type { ControlApi } from "../../cli/client/mod.js";
import { ClusterError, messageOf } from "../../lib/mod.js";
import { type Operation, checkHistory } from "../../manager/raft/sim/linearizability.js";
import type { ServiceSpec } from "../../proto/mod.js";
import { makeSpec } from "./objects.js";

export interface HistoryOptions {
  /** One for each user: clients of their own. */
  apis: readonly ControlApi[];
  /** Names of what is written begin with it. */
  prefix: string;
  registers: number;
  /** Of all users together. */
  writesPerSecond: number;
}

interface Write {
  /** Milliseconds of performance.now(). */
  callMs: number;
  returnMs: number;
  acknowledged: boolean;
}

const valueLabel = "value";

/** A register is a service without replicas; its value is a label, and each write makes a revision. */
export class History {
  readonly #options: HistoryOptions;
  readonly #operations = new Map<string, Operation[]>();
  readonly #writes: Write[] = [];
  readonly #created = new Map<string, "acknowledged" | "unknown">();
  readonly failures: string[] = [];
  #value = 0;
  #stop = false;
  #running: Promise<void>[] = [];

  constructor(options: HistoryOptions) {
    this.#options = options;
  }

  /** Makes the registers and lets the users begin. */
  async start(): Promise<void> {
    const { apis, registers, writesPerSecond } = this.#options;
    const [api] = apis;
    if (api === undefined) throw new Error("no users");
    for (let i = 0; i < registers; i += 1) {
      await api.createService(this.#spec(this.#register(i), ""));
      this.#operations.set(this.#register(i), []);
    }
    const everyMs = (1_000 * apis.length) / writesPerSecond;
    this.#running = apis.map((user, i) => this.#user(user, i, everyMs));
  }

  async stop(): Promise<void> {
    this.#stop = true;
    await Promise.all(this.#running);
  }

  get acknowledged(): number {
    return this.#writes.filter(({ acknowledged }) => acknowledged).length;
  }

  /** From that moment to the first answer to a write that was sent after it, ms. */
  firstAcknowledgedAfter(atMs: number): number {
    const later = this.#writes.filter(({ callMs, acknowledged }) => acknowledged && callMs >= atMs);
    return Math.min(...later.map(({ returnMs }) => returnMs)) - atMs;
  }

  /** Everything acknowledged is there, nothing twice, and the whole is linearizable; throws what is not. */
  async check(api: ControlApi): Promise<void> {
    for (const [name, operations] of this.#operations) {
      const { service, revisions } = await api.service(name);
      const value = service?.spec?.labels[valueLabel] ?? "";
      const last = { client: -1, kind: "read", value, call: performance.now(), return: performance.now() } as const;
      const verdict = checkHistory([...operations, last]);
      if (verdict.linearizable !== true)
        throw new Error(`${name}: ${JSON.stringify(verdict, (_, v: unknown) => (v === Infinity ? "never" : v))}`);
      const writes = operations.filter(({ kind }) => kind === "write");
      const known = writes.filter(({ return: end }) => end !== Infinity).length;
      // The first revision is that of the creation; each write made one more, and none two.
      const made = (service?.revision ?? 0) - 1;
      if (made < known || made > writes.length)
        throw new Error(`${name}: ${made} writes were made, ${known} acknowledged and ${writes.length} sent`);
      if (revisions.length === 0) throw new Error(`${name}: no revisions`);
    }
    const there = new Set((await api.services()).map(({ service }) => service?.spec?.name));
    for (const [name, outcome] of this.#created)
      if (outcome === "acknowledged" && !there.has(name)) throw new Error(`${name} was acknowledged and is not there`);
  }

  #register(i: number): string {
    return `${this.#options.prefix}-r${i}`;
  }

  #spec(name: string, value: string): ServiceSpec {
    return { ...makeSpec({ name, replicas: 0, ports: [] }), labels: { [valueLabel]: value } };
  }

  async #user(api: ControlApi, user: number, everyMs: number): Promise<void> {
    let nextMs = performance.now() + (everyMs * user) / this.#options.apis.length;
    for (let n = 0; !this.#stop; n += 1) {
      const waitMs = nextMs - performance.now();
      if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
      // What could not be sent in time is not made up for: the rate is a rate of tries.
      nextMs = Math.max(nextMs + everyMs, performance.now());
      const register = this.#register((user + n) % this.#options.registers);
      if (n % 8 === 7) await this.#create(api, `${this.#options.prefix}-u${user}-${n}`);
      else await this.#write(api, user, register);
      if (n % 4 === 3) await this.#read(api, user, register);
    }
  }

  async #write(api: ControlApi, user: number, register: string): Promise<void> {
    const value = `v${(this.#value += 1)}`;
    const operation: Operation = { client: user, kind: "write", value, call: performance.now(), return: Infinity };
    this.#operations.get(register)?.push(operation);
    await this.#tried(operation.call, async () => {
      await api.updateService(register, 0, this.#spec(register, value), false);
      operation.return = performance.now();
    });
  }

  async #create(api: ControlApi, name: string): Promise<void> {
    this.#created.set(name, "unknown");
    await this.#tried(performance.now(), async () => {
      await api.createService(this.#spec(name, ""));
      this.#created.set(name, "acknowledged");
    });
  }

  async #read(api: ControlApi, user: number, register: string): Promise<void> {
    const call = performance.now();
    try {
      const { service } = await api.service(register);
      const value = service?.spec?.labels[valueLabel] ?? "";
      this.#operations.get(register)?.push({ client: user, kind: "read", value, call, return: performance.now() });
    } catch (failure) {
      this.#failed(failure);
    }
  }

  async #tried(callMs: number, work: () => Promise<void>): Promise<void> {
    try {
      await work();
      this.#writes.push({ callMs, returnMs: performance.now(), acknowledged: true });
    } catch (failure) {
      this.#writes.push({ callMs, returnMs: performance.now(), acknowledged: false });
      this.#failed(failure);
    }
  }

  /** Unknown and unavailable are what losses look like; anything else would be an answer that is wrong. */
  #failed(failure: unknown): void {
    const expected =
      failure instanceof ClusterError
        ? ["unavailable", "unknown_outcome", "not_leader", "deadline_exceeded", "resource_exhausted"]
        : [];
    if (failure instanceof ClusterError && !expected.includes(failure.code))
      this.failures.push(`${failure.code}: ${failure.message}`);
    else if (!(failure instanceof ClusterError)) this.failures.push(messageOf(failure));
  }
}
