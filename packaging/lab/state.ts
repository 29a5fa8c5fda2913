// What a lab remembers between commands: state.json in its run folder. It is written before anything else is made and at every
// change, whole and by rename, so that whichever command is killed whenever, the next one can read what there was.
import { mkdirSync, readFileSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { ClusterError } from "../../lib/mod.js";
import type { Cut } from "./network.js";
import type { LabPlan } from "./options.js";
import { DATA_ROOT, RUN_ROOT, stateFile } from "./paths.js";
import { type ProcessId, isAlive, isErrno, marked } from "./proc.js";

export interface LabState {
  readonly format: 1;
  /** `starting` until all is ready: a lab found in this phase without a living `up` is rubble. */
  readonly phase: "starting" | "up";
  readonly plan: LabPlan;
  /** Null until the switch is up. */
  readonly subnet: string | null;
  readonly switchInit: ProcessId | null;
  /** By host, index 0 for host 1; null while the host is without power. */
  readonly inits: readonly (ProcessId | null)[];
  readonly cuts: readonly Cut[];
  /** Hosts whose agent is cut from every manager. */
  readonly agentCuts?: readonly number[];
  /** Whether the cluster was made: a host 1 that lost its disk joins the others instead of making a second one. */
  readonly clusterMade: boolean;
}

export function freshState(plan: LabPlan): LabState {
  const inits = Array.from({ length: plan.hosts }, () => null);
  return { format: 1, phase: "starting", plan, subnet: null, switchInit: null, inits, cuts: [], clusterMade: false };
}

/** Null where there is no such lab. A file that we cannot read counts as a lab that was never finished. */
export function readState(lab: string): LabState | null {
  try {
    const parsed: unknown = JSON.parse(readFileSync(stateFile(lab), "utf8"));
    return isState(parsed) ? parsed : null;
  } catch (cause) {
    if (isErrno(cause, "ENOENT") || cause instanceof SyntaxError) return null;
    if (isErrno(cause, "EACCES"))
      throw new ClusterError("permission_denied", "the lab belongs to root; use sudo", { cause });
    throw cause;
  }
}

export function writeState(state: LabState): void {
  const file = stateFile(state.plan.name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.new`, JSON.stringify(state, null, 2));
  renameSync(`${file}.new`, file);
}

/** Names of all labs of which there is anything, finished or not. */
export function labNames(): readonly string[] {
  const processes = marked().map(({ mark }) => mark.split("/")[0] ?? "");
  return [...new Set([...list(RUN_ROOT), ...list(DATA_ROOT), ...processes])].sort();
}

function list(dir: string): readonly string[] {
  try {
    return readdirSync(dir);
  } catch (cause) {
    if (isErrno(cause, "ENOENT")) return [];
    throw cause;
  }
}

/** We alone write this file, in one go: its format number vouches for the rest. */
function isState(value: unknown): value is LabState {
  return typeof value === "object" && value !== null && "format" in value && value.format === 1 && "plan" in value;
}

/** The state in memory and on disk, changed together. */
export class LabMemory {
  readonly name: string;
  #state: LabState;

  constructor(state: LabState) {
    this.name = state.plan.name;
    this.#state = state;
  }

  get state(): LabState {
    return this.#state;
  }

  get plan(): LabPlan {
    return this.#state.plan;
  }

  get hosts(): readonly number[] {
    return this.#state.inits.map((_, i) => i + 1);
  }

  get subnet(): string {
    if (this.#state.subnet === null) throw new Error("a lab without a network has no addresses");
    return this.#state.subnet;
  }

  /** Works on what is on disk now: other commands change it too, and this one may have waited since it last looked. */
  update(change: (state: LabState) => LabState): void {
    this.#state = change(readState(this.name) ?? this.#state);
    writeState(this.#state);
  }

  /** Another command may have changed it since. */
  reload(): void {
    const state = readState(this.name);
    if (state === null) throw new ClusterError("not_found", `the lab ${this.name} is down`);
    this.#state = state;
  }

  setInit(n: number, init: ProcessId | null): void {
    this.update((state) => ({ ...state, inits: state.inits.map((id, i) => (i === n - 1 ? init : id)) }));
  }

  /** The host's init where the host has power. */
  init(n: number): ProcessId | null {
    const init = this.#state.inits[this.check(n) - 1] ?? null;
    return init !== null && isAlive(init) ? init : null;
  }

  /** The same, but a host without power is an error. */
  poweredInit(n: number): ProcessId {
    const init = this.init(n);
    if (init !== null) return init;
    this.reload();
    const again = this.init(n);
    if (again !== null) return again;
    const message = `host ${n} of lab ${this.name} has no power; start it: flotilla lab start host ${n}`;
    throw new ClusterError("failed_precondition", message);
  }

  check(n: number): number {
    const max = this.plan.hosts;
    if (Number.isInteger(n) && n >= 1 && n <= max) return n;
    const rule = `must be a whole number from 1 to ${max}, the hosts of lab ${this.name}`;
    throw ClusterError.invalid([{ field: "host", value: String(n), rule, fix: "use 1" }]);
  }
}
