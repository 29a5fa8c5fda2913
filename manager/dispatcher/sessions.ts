// The agents that are connected now. A session begins with Register and ends with its stream, when heartbeats stop
// coming, or when the node registers again: then the newer one wins, and the older agent is told so.

import { BoundedStream, type Clock, ClusterError, type LatestStream, type Rng } from "../../lib/mod.js";
import type { LogSubscription, SessionMessage } from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import type { AssignmentSet } from "./assignments.js";

/** Agents are asked for a heartbeat this often, give or take 10 %. */
export const heartbeatPeriodMs = 5_000;
/** This many periods without one end a session. */
export const heartbeatsMissedMax = 3;

/** Log subscriptions that one node may have waiting to be read. */
const logSubscriptionsMax = 1_000;

export interface Session {
  readonly id: string;
  readonly nodeId: string;
  /** On the clock's monotonic scale. */
  lastSeenMs: number;
  readonly messages: BoundedStream<SessionMessage>;
  readonly assignments: AssignmentSet;
  /** Wakes the assignments stream; absent until the agent has opened it. */
  wakes: LatestStream<true> | undefined;
  /** Absent until the agent has opened it. */
  logs: BoundedStream<LogSubscription> | undefined;
}

export class Sessions {
  readonly #clock: Clock;
  readonly #rng: Rng;
  readonly #onEnd: (session: Session) => void;
  readonly #byId = new Map<string, Session>();
  readonly #byNode = new Map<string, Session>();

  constructor(clock: Clock, rng: Rng, onEnd: (session: Session) => void) {
    this.#clock = clock;
    this.#rng = rng;
    this.#onEnd = onEnd;
  }

  open(nodeId: string, assignments: AssignmentSet): Session {
    const older = this.#byNode.get(nodeId);
    if (older !== undefined)
      this.end(older, new ClusterError("conflict", `node ${nodeId} registered again; this session is over`));
    const id = this.#rng.id();
    const session: Session = {
      id,
      nodeId,
      lastSeenMs: this.#clock.monotonic(),
      messages: new BoundedStream(`session ${id}`, 100, () => this.#forget(session)),
      assignments,
      wakes: undefined,
      logs: undefined,
    };
    this.#byId.set(id, session);
    this.#byNode.set(nodeId, session);
    return session;
  }

  /** The session, seen just now; `not_found` when there is none of that id: the agent must register again. */
  get(id: string): Session {
    const session = this.#byId.get(id);
    if (session === undefined)
      throw new ClusterError("not_found", `session ${JSON.stringify(id)} is unknown here; register again`);
    session.lastSeenMs = this.#clock.monotonic();
    return session;
  }

  ofNode(nodeId: string): Session | undefined {
    return this.#byNode.get(nodeId);
  }

  all(): IterableIterator<Session> {
    return this.#byId.values();
  }

  get size(): number {
    return this.#byId.size;
  }

  end(session: Session, error?: unknown): void {
    session.messages.end(error);
    this.#forget(session);
  }

  /** Opens the stream of log subscriptions; a second one replaces the first. */
  openLogs(session: Session): BoundedStream<LogSubscription> {
    session.logs?.end();
    const logs = new BoundedStream<LogSubscription>(`log subscriptions of ${session.nodeId}`, logSubscriptionsMax);
    session.logs = logs;
    return logs;
  }

  #forget(session: Session): void {
    if (!this.#byId.delete(session.id)) return;
    if (this.#byNode.get(session.nodeId) === session) this.#byNode.delete(session.nodeId);
    session.logs?.end();
    session.wakes?.end();
    this.#onEnd(session);
  }
}
