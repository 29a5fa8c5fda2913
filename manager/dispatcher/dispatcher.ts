// The dispatcher: sessions with agents, their assignments down, their statuses up. It decides nothing; it carries
// the store's desired state to the nodes and the nodes' observed state to the store.

import { type Clock, ClusterError, LatestStream, type Logger, ReconcileLoop, type Rng } from "../../lib/mod.js";
import { type Node, NodeState, type Task, TaskState } from "../../proto/mod.js";
import type {
  AssignmentsMessage,
  LogSubscription,
  RegisterRequest,
  SessionMessage,
  UpdateStatusRequest,
} from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import { RouteTable } from "../routes/mod.js";
import type { Commit, Store } from "../store/mod.js";
import { Admission, type Leave } from "./admission.js";
import { AssignmentSet } from "./assignments.js";
import { Drains } from "./drains.js";
import { LogBroker } from "./logs.js";
import { Pacer } from "./pacer.js";
import { Registrar } from "./registrar.js";
import { heartbeatPeriodMs, heartbeatsMissedMax, type Session, Sessions } from "./sessions.js";
import { SharedState } from "./shared.js";
import { applyStatus, isTerminal } from "./status.js";
import { type TaskUse, UsageTable } from "./usage.js";

/** Statuses of one report that go into one transaction; a larger report takes several. */
const statusesPerTransaction = 50;
/** A report larger than this is refused: an agent sends the newest status of each task. */
const statusesPerReportMax = 10_000;
/** Routes are built at most so often between two times that an agent is told of them. */
const routesPerInterval = 10;
/** Problems of a host that are kept, and characters of each. */
const problemsMax = 32;
const problemCharsMax = 300;

export interface DispatcherOptions {
  store: Store;
  clock: Clock;
  rng: Rng;
  log: Logger;
  /** Every manager's gRPC address, for the agents; the leader's first. See `setManagers`. */
  managers: readonly string[];
  /** What agents are told when this dispatcher ends; by default that this manager stops. */
  farewell?: () => ClusterError;
}

/** What a route says of a task: most changes of a task concern no route. */
function routedAs(task: Task | undefined): string {
  if (task?.status.state !== TaskState.RUNNING || task.status.container?.ready !== true) return "";
  const { address, hostPorts } = task.status.container;
  return JSON.stringify([task.desiredState > TaskState.RUNNING, address, hostPorts]);
}

/** Role, availability and labels, whatever order these came in. */
function wishedOf(node: Node | undefined): string {
  if (node === undefined) return "";
  const { role, availability, labels } = node.spec;
  return JSON.stringify([role, availability, Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))]);
}

export class Dispatcher implements AsyncDisposable {
  readonly logs: LogBroker;
  readonly #options: DispatcherOptions;
  readonly #sessions: Sessions;
  readonly #routes = new RouteTable();
  readonly #shared = new SharedState();
  readonly #pacer: Pacer<Session>;
  readonly #admission: Admission;
  readonly #drains = new Drains();
  readonly #registrar: Registrar;
  readonly #dirtyServices = new Set<string>();
  /** Those with something of their own to be told. */
  readonly #dirtySessions = new Set<Session>();
  /** When routes were built last, on the monotonic clock. */
  #routedMs = Number.NEGATIVE_INFINITY;
  readonly #loop: ReconcileLoop;
  readonly #unsubscribe: () => void;
  #managers: readonly string[];
  #ended = false;
  #startedMs: number;
  /** When a node without a session was last heard of, on the monotonic clock. */
  readonly #lastSeen = new Map<string, number>();
  readonly #usage: UsageTable;
  #onSession: () => void = () => undefined;

  constructor(options: DispatcherOptions) {
    const { store, clock, rng, log } = options;
    this.#options = options;
    this.#managers = options.managers;
    this.#startedMs = clock.monotonic();
    this.#sessions = new Sessions(clock, rng, (session) => this.#sessionEnded(session));
    this.logs = new LogBroker(store, this.#sessions, rng);
    this.#usage = new UsageTable(clock);
    this.#registrar = new Registrar({
      store,
      clock,
      log,
      hasSession: (nodeId) => this.hasSession(nodeId),
      onAlive: (nodeId) => this.#lastSeen.set(nodeId, clock.monotonic()),
    });
    this.#pacer = new Pacer({
      clock,
      revision: () => this.#shared.revision,
      bytesSince: (revision) => this.#shared.since(revision).bytes.length,
      tell: (session) => session.wakes?.push(true),
    });
    this.#admission = new Admission(clock, () => this.#shared.whole().bytes.length);
    this.#loop = new ReconcileLoop({ name: "dispatcher", clock, rng, log, run: async () => this.#push() });
    for (const service of store.view().services.values()) this.#dirtyServices.add(service.meta.id);
    for (const node of store.view().nodes.values()) this.#indexNode(undefined, node);
    this.#refreshRoutes();
    this.#unsubscribe = store.subscribe((commit) => this.#onCommit(commit));
  }

  /** Calls back whenever a session begins or ends; for the node monitor. */
  onSessionChange(listener: () => void): void {
    this.#onSession = listener;
  }

  hasSession(nodeId: string): boolean {
    const session = this.#sessions.ofNode(nodeId);
    return session !== undefined && !this.#isStale(session);
  }

  /** Whether the node is being stored as READY and its session is about to open; the end is a session change. */
  isRegistering(nodeId: string): boolean {
    return this.#registrar.isUnderWay(nodeId);
  }

  /** When the node was last heard of by this manager, on the monotonic clock; its own start when never. */
  lastSeenMs(nodeId: string): number {
    return this.#sessions.ofNode(nodeId)?.lastSeenMs ?? this.#lastSeen.get(nodeId) ?? this.#startedMs;
  }

  /** Whether this manager has heard of the node at all. */
  wasSeen(nodeId: string): boolean {
    return this.#lastSeen.has(nodeId) || this.#sessions.ofNode(nodeId) !== undefined;
  }

  /** What tasks use, as agents said within the last minute; those that ended are not in it. */
  usage(): ReadonlyMap<string, TaskUse> {
    return this.#usage.read(this.#options.store.view());
  }

  get sessionCount(): number {
    return this.#sessions.size;
  }

  /** Counts every node as heard of just now: this process stood still, and what they said waits unread. */
  pardon(): void {
    const nowMs = this.#options.clock.monotonic();
    this.#startedMs = nowMs;
    for (const nodeId of this.#lastSeen.keys()) this.#lastSeen.set(nodeId, nowMs);
    for (const session of this.#sessions.all()) session.lastSeenMs = nowMs;
  }

  /** Ends sessions whose heartbeats have stopped; answers when to look again, on the monotonic clock. */
  expireSessions(): number | undefined {
    this.#registrar.sweep();
    let next: number | undefined;
    for (const session of [...this.#sessions.all()]) {
      const dueMs = session.lastSeenMs + heartbeatPeriodMs * heartbeatsMissedMax;
      if (this.#isStale(session))
        this.#sessions.end(session, new ClusterError("deadline_exceeded", `${heartbeatsMissedMax} heartbeats missed`));
      else next = Math.min(next ?? dueMs, dueMs);
    }
    return next;
  }

  /** Tells every agent, where it is news. */
  setManagers(managers: readonly string[]): void {
    if (managers.join() === this.#managers.join()) return;
    this.#managers = managers;
    for (const session of this.#sessions.all()) this.#greet(session);
  }

  heartbeat(sessionId: string): number {
    this.#sessions.get(sessionId);
    return heartbeatPeriodMs;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    this.#unsubscribe();
    await this.#loop[Symbol.asyncDispose]();
    this.#pacer.end();
    this.#admission.end();
    const farewell = this.#farewell();
    // Before the sessions: their end would only read like agents that are away.
    this.logs.end(farewell);
    for (const session of [...this.#sessions.all()]) this.#sessions.end(session, farewell);
  }

  /** The session's first message, and every later one: what its agent must know by now. */
  #greet(session: Session): void {
    const view = this.#options.store.view();
    const node = view.nodes.get(session.nodeId);
    const [cluster] = view.clusters.values();
    session.messages.push({
      sessionId: session.id,
      heartbeatPeriodMs,
      node,
      cluster,
      managers: [...this.#managers],
    });
  }

  #isStale(session: Session): boolean {
    return this.#options.clock.monotonic() >= session.lastSeenMs + heartbeatPeriodMs * heartbeatsMissedMax;
  }

  #onCommit({ changes }: Commit): void {
    for (const change of changes) {
      switch (change.table) {
        case "tasks": {
          const task = change.after ?? change.before;
          if (task === undefined) break;
          if (change.after === undefined || isTerminal(change.after.status.state)) this.#usage.forget(task.meta.id);
          if (routedAs(change.before) !== routedAs(change.after)) this.#dirtyServices.add(task.serviceId);
          this.#touchTask(task.nodeId, task.meta.id);
          break;
        }
        case "services":
          this.#dirtyServices.add((change.after ?? change.before)?.meta.id ?? "");
          break;
        case "nodes": {
          // A node's address or loss concerns the routes of what runs there.
          const id = (change.after ?? change.before)?.meta.id ?? "";
          this.#indexNode(change.before, change.after);
          if (change.after === undefined) this.#lastSeen.delete(id);
          const session = this.#sessions.ofNode(id);
          // What is wished of the node: its agent acts on some of it, as the role.
          if (session !== undefined && wishedOf(change.before) !== wishedOf(change.after)) this.#greet(session);
          const routable = (node: Node | undefined) =>
            `${node?.status.state === NodeState.DOWN} ${node?.description.advertiseAddress}`;
          if (routable(change.before) === routable(change.after)) break;
          for (const task of this.#options.store.view().tasksOfNode(id)) this.#dirtyServices.add(task.serviceId);
          break;
        }
        case "clusters":
        case "revisions":
        case "rollouts":
          break;
      }
    }
    this.#loop.wake();
  }

  #touchTask(nodeId: string, taskId: string): void {
    const session = this.#sessions.ofNode(nodeId);
    if (session === undefined) return;
    session.assignments.touchTask(taskId);
    this.#dirtySessions.add(session);
  }

  #refreshRoutes(): void {
    const view = this.#options.store.view();
    for (const id of this.#dirtyServices) {
      if (!this.#routes.refresh(view, id)) continue;
      const route = this.#routes.get(id);
      this.#shared.setRoute(id, route);
      const draining = route?.endpoints.filter((endpoint) => endpoint.draining) ?? [];
      this.#drains.setDraining(
        id,
        draining.map(({ taskId }) => taskId),
      );
    }
    this.#dirtyServices.clear();
    this.#routedMs = this.#options.clock.monotonic();
  }

  #push(): { wakeAtMs?: number } {
    const { clock } = this.#options;
    // A route has all endpoints of its service: it is not built anew for each of them that comes and goes.
    const waitMs = this.#routedMs + this.#pacer.intervalMs / routesPerInterval - clock.monotonic();
    if (waitMs <= 0 && this.#dirtyServices.size > 0) this.#refreshRoutes();
    for (const taskId of this.#drains.settle())
      this.#touchTask(this.#options.store.view().tasks.get(taskId)?.nodeId ?? "", taskId);
    for (const session of this.#dirtySessions) session.wakes?.push(true);
    this.#dirtySessions.clear();
    if (this.#shared.isLong) this.#trimShared();
    this.#pacer.changed();
    return this.#dirtyServices.size === 0 ? {} : { wakeAtMs: clock.now() + Math.ceil(waitMs) };
  }

  #trimShared(): void {
    let told = this.#shared.revision;
    for (const { assignments } of this.#sessions.all()) told = Math.min(told, assignments.sharedRevision);
    this.#shared.trim(told);
  }

  async *register(request: RegisterRequest, signal: AbortSignal): AsyncGenerator<SessionMessage> {
    const session = await this.#begin(request, signal);
    const leave = () => this.#sessions.end(session);
    signal.addEventListener("abort", leave, { once: true });
    try {
      this.#greet(session);
      yield* session.messages;
    } finally {
      signal.removeEventListener("abort", leave);
      leave();
    }
  }

  async #begin(request: RegisterRequest, signal: AbortSignal): Promise<Session> {
    const { store, log } = this.#options;
    const { nodeId } = request;
    try {
      return await this.#registrar.register(request, (node) => {
        signal.throwIfAborted();
        if (this.#ended) throw this.#farewell();
        const session = this.#sessions.open(
          nodeId,
          new AssignmentSet(nodeId, {
            view: () => store.view(),
            shared: this.#shared,
            isDrained: (taskId) => this.#drains.isDrained(taskId),
            // Twice: what is announced waits for its route first, and the interval grows while agents come back.
            announceMs: () => this.#pacer.announceMs * 2,
          }),
        );
        log.info({ node: nodeId, hostname: node.description.hostname, session: session.id }, "session began");
        return session;
      });
    } finally {
      this.#onSession();
    }
  }

  #farewell(): ClusterError {
    return this.#options.farewell?.() ?? new ClusterError("unavailable", "this manager is stopping");
  }

  #indexNode(before: Node | undefined, after: Node | undefined): void {
    const id = (after ?? before)?.meta.id ?? "";
    const named = (node: Node | undefined) => `${node?.description.hostname} ${node?.description.advertiseAddress}`;
    if (named(before) !== named(after)) this.#shared.setNode(id, after);
    // Agents come and go, and after a manager's start there is none yet: their ambassadors go on serving meanwhile.
    // Only a host that is lost has no connections any more.
    this.#drains.setServing(id, after !== undefined && after.status.state !== NodeState.DOWN);
    this.#registrar.index(before, after);
  }

  async *assignments(sessionId: string, signal: AbortSignal): AsyncGenerator<AssignmentsMessage> {
    const session = this.#sessions.get(sessionId);
    const wakes = new LatestStream<true>(`assignments ${session.nodeId}`);
    const stop = () => wakes.end();
    // A second stream takes over: what the first one still took would never reach the agent.
    session.wakes?.end();
    session.wakes = wakes;
    signal.addEventListener("abort", stop, { once: true });
    let leave: Leave | undefined;
    const isOver = () => session.wakes !== wakes || this.#sessions.ofNode(session.nodeId) !== session;
    try {
      leave = await this.#admission.enter(signal);
      if (leave === undefined || isOver()) return;
      this.#refreshRoutes();
      this.#pacer.told(session);
      yield session.assignments.complete();
      leave();
      // What came while the first message was written.
      wakes.push(true);
      for await (const _ of wakes) {
        if (isOver()) return;
        const message = session.assignments.incremental();
        if (message === undefined) continue;
        // Whatever it is about: what all are told comes with it.
        this.#pacer.told(session);
        yield message;
      }
    } finally {
      leave?.();
      signal.removeEventListener("abort", stop);
    }
  }

  async *logSubscriptions(sessionId: string, signal: AbortSignal): AsyncGenerator<LogSubscription> {
    const session = this.#sessions.get(sessionId);
    const subscriptions = this.#sessions.openLogs(session);
    const stop = () => subscriptions.end();
    signal.addEventListener("abort", stop, { once: true });
    this.logs.sessionOpened(session.nodeId);
    try {
      yield* subscriptions;
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  async updateStatus({ sessionId, updates, drains, problems, usage }: UpdateStatusRequest): Promise<void> {
    const { store, clock, log } = this.#options;
    const { nodeId } = this.#sessions.get(sessionId);
    if (updates.length > statusesPerReportMax)
      throw new ClusterError(
        "resource_exhausted",
        `${updates.length} statuses in one report; at most ${statusesPerReportMax}`,
      );
    this.#usage.report(nodeId, usage, store.view());
    for (const { taskId, activeConnections } of drains) this.#drains.report(taskId, nodeId, activeConnections);
    if (drains.length > 0) this.#loop.wake();
    if (problems !== undefined) await this.#storeProblems(nodeId, problems.texts);
    for (let i = 0; i < updates.length; i += statusesPerTransaction) {
      const slice = updates.slice(i, i + statusesPerTransaction);
      await store.update((tx) => {
        for (const { taskId, status } of slice) {
          const task = tx.tasks.get(taskId);
          // Gone from the store: the agent will hear of it by its assignments.
          if (task === undefined || status === undefined) continue;
          if (task.nodeId !== nodeId) {
            log.warn({ node: nodeId, task: taskId, owner: task.nodeId }, "status of another node's task refused");
            continue;
          }
          if (status.state < TaskState.ASSIGNED || status.state > TaskState.REJECTED) {
            log.warn({ node: nodeId, task: taskId, state: status.state }, "status that no agent may report refused");
            continue;
          }
          const after = applyStatus(task, status, clock.now());
          if (after !== undefined) tx.put("tasks", after);
        }
      });
    }
  }

  async #storeProblems(nodeId: string, texts: readonly string[]): Promise<void> {
    const { store, clock } = this.#options;
    const problems = texts.slice(0, problemsMax).map((text) => text.slice(0, problemCharsMax));
    const same = (others: readonly string[] | undefined) => others?.join("\n") === problems.join("\n");
    // Every session says them once, and mostly there are none: no write for that.
    if (same(store.view().nodes.get(nodeId)?.problems)) return;
    await store.update((tx) => {
      const node = tx.nodes.get(nodeId);
      if (node === undefined || same(node.problems)) return;
      tx.put("nodes", { ...node, meta: { ...node.meta, updatedAtMs: clock.now() }, problems });
    });
  }

  #sessionEnded(session: Session): void {
    const { log } = this.#options;
    this.#lastSeen.set(session.nodeId, session.lastSeenMs);
    this.#pacer.delete(session);
    this.#dirtySessions.delete(session);
    this.logs.sessionEnded(session.nodeId);
    log.info({ node: session.nodeId, session: session.id }, "session ended");
    this.#onSession();
  }
}
