// A manager for tests of the agent: a real gRPC server with one node's session, whose assignments the test writes and
// whose reports it reads. What a test does not set up is refused.

import { EventEmitter, on } from "node:events";
import { Server, ServerCredentials, type ServerWritableStream } from "@grpc/grpc-js";
import { ClusterError } from "../../lib/mod.js";
import { toStatus } from "../../proto/errors.js";
import {
  type AssignmentChange,
  AssignmentsKind,
  type AssignmentsMessage,
  type DispatcherServer,
  DispatcherService,
  type LogLine,
  type LogSubscription,
  type RegisterRequest,
  type SessionMessage,
  type TaskAssignment,
} from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import type { Node, Route, TaskStatus } from "../../proto/mod.js";
import { NodeAvailability, NodeRole, NodeState } from "../../proto/mod.js";
import { makeCluster } from "./objects.js";

export interface FakeDispatcherOptions {
  /** 0 picks one. */
  port?: number;
  host?: string;
  subnet?: string;
  heartbeatPeriodMs?: number;
}

const meta = (id: string) => ({ id, version: 1, createdAtMs: 1, updatedAtMs: 1 });

export class FakeDispatcher implements AsyncDisposable {
  readonly #options: FakeDispatcherOptions;
  readonly #changes = new EventEmitter();
  readonly #tasks = new Map<string, TaskAssignment>();
  readonly #routes = new Map<string, Route>();
  readonly #sessions = new Map<string, ServerWritableStream<RegisterRequest, SessionMessage>>();
  #assignments: ServerWritableStream<unknown, AssignmentsMessage>[] = [];
  #logStreams: ServerWritableStream<unknown, LogSubscription>[] = [];
  #server: Server | undefined;
  #port = 0;
  #sessionCount = 0;
  #sequence = 0;

  /** Everything that was reported, in order. */
  readonly reports: { taskId: string; status: TaskStatus }[] = [];
  readonly drains: { taskId: string; activeConnections: number }[] = [];
  readonly lines: { subscription: string; line: LogLine }[] = [];
  readonly logErrors: { subscription: string; error: string }[] = [];
  readonly logEnds: string[] = [];
  readonly registrations: RegisterRequest[] = [];
  heartbeats = 0;
  /** Set to have every status report refused, as by a store without quorum. */
  refuseStatuses = false;
  /** Set to refuse registrations as a manager that does not lead: the leader's address, or "" when there is none. */
  leader: string | undefined;
  /** Set to have log streams that ended never answered. */
  owesLogAnswers = false;

  constructor(options: FakeDispatcherOptions = {}) {
    this.#options = options;
  }

  get address(): string {
    return `${this.#options.host ?? "127.0.0.1"}:${this.#port}`;
  }

  /** Listens; on the same port again after `stop`. */
  async start(): Promise<void> {
    const server = new Server();
    server.addService(DispatcherService, this.#handlers());
    const bind = `${this.#options.host ?? "127.0.0.1"}:${this.#port || (this.#options.port ?? 0)}`;
    this.#port = await new Promise<number>((resolve, reject) => {
      server.bindAsync(bind, ServerCredentials.createInsecure(), (error, port) => {
        if (error === null) resolve(port);
        else reject(error);
      });
    });
    this.#server = server;
  }

  /** As if the manager's process were killed: connections break, the assignments are remembered. */
  stop(): void {
    this.#server?.forceShutdown();
    this.#server = undefined;
    this.#sessions.clear();
    this.#assignments = [];
    this.#logStreams = [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stop();
    await Promise.resolve();
  }

  /** Assigns a task, or changes its assignment. */
  assign(task: TaskAssignment): void {
    this.#tasks.set(task.task?.meta?.id ?? "", task);
    this.#send([{ item: { $case: "task", value: task } }]);
  }

  /** Changes one task's assignment. */
  change(taskId: string, how: (task: TaskAssignment) => TaskAssignment): void {
    const task = this.#tasks.get(taskId);
    if (task === undefined) throw new Error(`task ${taskId} is not assigned`);
    this.assign(how(task));
  }

  remove(taskId: string): void {
    this.#tasks.delete(taskId);
    this.#send([{ item: { $case: "removedTaskId", value: taskId } }]);
  }

  /** Forgets a task without a word, as when the agent was away: only a COMPLETE will tell. */
  dropSilently(taskId: string): void {
    this.#tasks.delete(taskId);
  }

  route(route: Route): void {
    this.#routes.set(route.id, route);
    this.#send([{ item: { $case: "route", value: route } }]);
  }

  removeRoute(id: string): void {
    this.#routes.delete(id);
    this.#send([{ item: { $case: "removedRouteId", value: id } }]);
  }

  /** Leaves one message out, so that the next shows a gap. */
  skipSequence(): void {
    this.#sequence += 1;
  }

  endSessions(): void {
    for (const call of this.#sessions.values()) call.end();
    this.#sessions.clear();
  }

  /** As a leader that is deposed: sessions end with the name of the new one. */
  handOver(leader: string): void {
    this.leader = leader;
    for (const call of this.#sessions.values()) call.emit("error", toStatus(notLeader(leader)));
    this.#sessions.clear();
  }

  subscribe(subscription: LogSubscription): void {
    for (const stream of this.#logStreams) stream.write(subscription);
  }

  get sessions(): number {
    return this.#sessions.size;
  }

  get logStreams(): number {
    return this.#logStreams.length;
  }

  /** The newest status of a task. */
  status(taskId: string): TaskStatus | undefined {
    return this.reports.findLast((report) => report.taskId === taskId)?.status;
  }

  /** Resolves once `is` holds, looked at after everything that arrives; rejects after `ms` with what was there. */
  async until<T>(what: string, is: () => T | undefined | false, ms = 60_000): Promise<T> {
    const signal = AbortSignal.timeout(ms);
    const now = is();
    if (now !== undefined && now !== false) return now;
    try {
      for await (const _ of on(this.#changes, "change", { signal })) {
        const value = is();
        if (value !== undefined && value !== false) return value;
      }
    } catch (failure) {
      if (!signal.aborted) throw failure;
    }
    const last = this.reports.slice(-5).map(({ taskId, status }) => `${taskId}: ${JSON.stringify(status)}`);
    throw new Error(`${what}: not within ${ms} ms; sessions ${this.#sessions.size}; last reports:\n${last.join("\n")}`);
  }

  #send(changes: AssignmentChange[]): void {
    const appliesTo = String(this.#sequence);
    this.#sequence += 1;
    const message = { kind: AssignmentsKind.INCREMENTAL, appliesTo, resultsIn: String(this.#sequence), changes };
    for (const stream of this.#assignments) stream.write(message);
  }

  #changed(): void {
    this.#changes.emit("change");
  }

  #known(sessionId: string): void {
    if (!this.#sessions.has(sessionId)) throw new ClusterError("not_found", `session ${sessionId} is not known`);
  }

  #handlers(): DispatcherServer {
    const refuse = (thrown: unknown) => toStatus(thrown);
    return {
      register: (call) => {
        this.registrations.push(call.request);
        if (this.leader !== undefined) {
          call.emit("error", toStatus(notLeader(this.leader)));
          this.#changed();
          return;
        }
        this.#sessionCount += 1;
        const sessionId = `s${this.#sessionCount}`;
        this.#sessions.set(sessionId, call);
        call.on("cancelled", () => {
          this.#sessions.delete(sessionId);
          this.#changed();
        });
        call.on("error", () => this.#sessions.delete(sessionId));
        call.write({
          sessionId,
          heartbeatPeriodMs: this.#options.heartbeatPeriodMs ?? 1_000,
          node: this.#node(call.request),
          cluster: makeCluster(),
          managers: [this.address],
        });
        this.#changed();
      },
      heartbeat: (call, done) => {
        try {
          this.#known(call.request.sessionId);
          this.heartbeats += 1;
          done(null, { periodMs: this.#options.heartbeatPeriodMs ?? 1_000 });
          this.#changed();
        } catch (thrown) {
          done(refuse(thrown));
        }
      },
      assignments: (call) => {
        this.#assignments.push(call);
        const leave = () => {
          this.#assignments = this.#assignments.filter((other) => other !== call);
        };
        call.on("cancelled", leave);
        call.on("error", leave);
        this.#sequence += 1;
        call.write({
          kind: AssignmentsKind.COMPLETE,
          appliesTo: "",
          resultsIn: String(this.#sequence),
          changes: [
            ...[...this.#tasks.values()].map((value): AssignmentChange => ({ item: { $case: "task", value } })),
            ...[...this.#routes.values()].map((value): AssignmentChange => ({ item: { $case: "route", value } })),
          ],
        });
        this.#changed();
      },
      updateStatus: (call, done) => {
        try {
          this.#known(call.request.sessionId);
          if (this.refuseStatuses) throw new ClusterError("unavailable", "the store has no quorum");
          for (const { taskId, status } of call.request.updates)
            if (status !== undefined) this.reports.push({ taskId, status });
          this.drains.push(...call.request.drains);
          done(null, {});
          this.#changed();
        } catch (thrown) {
          done(refuse(thrown));
        }
      },
      logSubscriptions: (call) => {
        this.#logStreams.push(call);
        const leave = () => {
          this.#logStreams = this.#logStreams.filter((other) => other !== call);
        };
        call.on("cancelled", leave);
        call.on("error", leave);
        this.#changed();
      },
      publishLogs: (call, done) => {
        let id = "";
        call.on("data", (message: { subscriptionId: string; lines: LogLine[]; error: string }) => {
          id = message.subscriptionId;
          for (const line of message.lines) this.lines.push({ subscription: id, line });
          if (message.error !== "") this.logErrors.push({ subscription: id, error: message.error });
          this.#changed();
        });
        call.on("end", () => {
          this.logEnds.push(id);
          if (!this.owesLogAnswers) done(null, {});
          this.#changed();
        });
        call.on("error", () => undefined);
      },
    };
  }

  #node(request: RegisterRequest): Node {
    const { description } = request;
    if (description?.resources === undefined) throw new Error("the agent did not describe its host");
    return {
      meta: meta(request.nodeId),
      spec: { availability: NodeAvailability.ACTIVE, role: NodeRole.UNSPECIFIED, labels: {}, availabilitySinceMs: 0 },
      description: { ...description, resources: description.resources },
      status: { state: NodeState.READY, message: "", sinceMs: 1, lossConfirmed: false, lastSeenAtMs: 0 },
      subnet: this.#options.subnet ?? "10.128.7.0/24",
      problems: [],
      manager: false,
    };
  }
}

function notLeader(leader: string): ClusterError {
  return new ClusterError("not_leader", "this manager does not lead", { details: { leader } });
}
