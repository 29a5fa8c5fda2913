// What the ambassador knows of one endpoint by itself, beside what the route says: connections in flight and recent
// failures to connect. It belongs to the task's id, so it survives every update of the route.

/** Failures in a row after which an endpoint gets no connections for a while. */
export const ejectAfterFailures = 3;
/** For how long. */
export const ejectForMs = 5_000;
/** How long a failure to connect counts against an endpoint. */
const penaltyForMs = 10_000;
/** What one recent failure weighs, in connections in flight. */
const penaltyPerFailure = 16;

export class EndpointState {
  readonly taskId: string;
  readonly serviceName: string;
  readonly slot: number;
  readonly revision: number;
  /** Withdrawn: no new connections, those that are open go on. */
  draining = false;
  /** Connections open or being opened. */
  #active = 0;
  #failures = 0;
  #carried = 0;
  #failedAtMs = Number.NEGATIVE_INFINITY;
  readonly #onActive: (endpoint: EndpointState) => void;

  /** `onActive` is called whenever `active` changes while draining. */
  constructor(
    of: { taskId: string; serviceName: string; slot: number; revision: number },
    onActive: (endpoint: EndpointState) => void,
  ) {
    this.taskId = of.taskId;
    this.serviceName = of.serviceName;
    this.slot = of.slot;
    this.revision = of.revision;
    this.#onActive = onActive;
  }

  get active(): number {
    return this.#active;
  }

  /** A connection begins. */
  begin(): void {
    this.#active += 1;
    if (this.draining) this.#onActive(this);
  }

  /** A connection ended, however. */
  end(): void {
    this.#active -= 1;
    if (this.draining) this.#onActive(this);
  }

  connected(): void {
    this.#failures = 0;
    this.#carried += 1;
  }

  /** Connections that it got since this was asked last. */
  takeCarried(): number {
    const carried = this.#carried;
    this.#carried = 0;
    return carried;
  }

  connectFailed(nowMs: number): void {
    this.#failures += 1;
    this.#failedAtMs = nowMs;
  }

  /** Another container took the task's place: what was learned of the old one does not count. */
  forgive(): void {
    this.#failures = 0;
  }

  ejected(nowMs: number): boolean {
    return this.#failures >= ejectAfterFailures && nowMs < this.#failedAtMs + ejectForMs;
  }

  /** What the balancer compares: fewer is better. */
  load(nowMs: number): number {
    if (this.#failures === 0 || nowMs >= this.#failedAtMs + penaltyForMs) return this.#active;
    return this.#active + this.#failures * penaltyPerFailure;
  }
}
