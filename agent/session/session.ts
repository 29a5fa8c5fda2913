// The agent's connection to the managers: finds one that takes it, registers, keeps the session alive, follows the
// assignments and reports. When it ends, for whatever reason, the next one begins; the tasks do not notice.

import { type ChannelOptions, Metadata, connectivityState, credentials } from "@grpc/grpc-js";
import {
  type Backoff,
  type Clock,
  ClusterError,
  type Logger,
  type Rng,
  backoffMs,
  messageOf,
  pause,
  sleep,
  withDeadline,
} from "../../lib/mod.js";
import {
  type AssignmentsMessage,
  AssignmentsKind,
  DispatcherClient,
  type SessionMessage,
  type TaskUsage,
} from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import type { Cluster, Node, NodeDescription, TaskStatus } from "../../proto/mod.js";
import { messages, sessionIsOver, unary } from "./calls.js";
import { type LogSource, publishLogs } from "./logs.js";
import { Reporter } from "./reporter.js";

export interface SessionOptions {
  nodeId: string;
  /** Where managers are, as the user said; a session adds those that it names. */
  managers: readonly string[];
  /** Where they were when the agent ran last. */
  remembered: readonly string[];
  clock: Clock;
  rng: Rng;
  log: Logger;
  /** Asked before each registration; rejects while the engine cannot be described. */
  describe: () => Promise<NodeDescription>;
  /** A manager answered a call that was sent at `sentMs`, on the monotonic clock; `isNew`: with this a session began. */
  onContact(sentMs: number, isNew: boolean): void;
  onSession(host: { cluster: Cluster; node: Node }, managers: string[]): void;
  onAssignments(message: AssignmentsMessage): void;
  /** All there is now: sent to each new session. */
  statuses(): [string, TaskStatus][];
  drains(): [string, number][];
  problems(): readonly string[];
  logs: LogSource;
  /** Added to the channel's options; a process with many sessions wants a connection for each of them, say. */
  channel?: ChannelOptions;
}

const registerMs = 10_000;
/** A manager whose host has no power answers nothing at all: on to the next one, before the leader calls this node lost. */
const connectMs = 3_000;
const callMs = 10_000;
/** Heartbeats that may fail in a row before the manager counts as gone. */
const missedMax = 3;
/** A first wait of almost nothing: another manager is usually there. */
const reconnect: Backoff = { firstMs: 100, maxMs: 5_000, jitter: 0.7 };
const reopen: Backoff = { firstMs: 50, maxMs: 2_000, jitter: 0.5 };
/** Up to this long agents wait whose session ended under them, each its own time: they all lost the same leader. */
const spreadMs = 1_000;
/** Hints followed one after another without a wait; managers that point at each other must not keep an agent busy. */
const hintsMax = 3;
/** Managers learned from sessions and kept; more is no cluster of ours. */
const managersMax = 32;
const messageBytesMax = 64 << 20;

export class ManagerSession {
  readonly #options: SessionOptions;
  readonly #reporter: Reporter;
  #managers: string[];
  #connected = false;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#managers = distinct([...options.managers, ...options.remembered]);
    this.#reporter = new Reporter(options);
  }

  get connected(): boolean {
    return this.#connected;
  }

  /** As known now: the user's, then those that the last session named. */
  get managers(): readonly string[] {
    return this.#managers;
  }

  report(taskId: string, status: TaskStatus): void {
    this.#reporter.status(taskId, status);
  }

  reportDrain(taskId: string, activeConnections: number): void {
    this.#reporter.drain(taskId, activeConnections);
  }

  /** Best effort; without a session it is dropped. */
  reportUsage(usage: readonly TaskUsage[]): void {
    if (this.#connected) this.#reporter.usage(usage);
  }

  reportProblems(texts: readonly string[]): void {
    this.#reporter.problems(texts);
  }

  /** One session after another, until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, rng, log } = this.#options;
    let failures = 0;
    let hints = 0;
    // Agents of one cluster that restart together begin with different managers.
    let at = rng.below(this.#managers.length);
    let leader: string | undefined;
    while (!signal.aborted) {
      const address = leader ?? this.#managers[at++ % this.#managers.length] ?? "";
      leader = undefined;
      let waitMs: number;
      try {
        const end = await this.#session(address, signal);
        leader = end.leader;
        // A session that held was a good one: begin the back-off anew.
        const held = end.lastedMs > reconnect.maxMs;
        failures = held ? 0 : failures + 1;
        waitMs = held || leader !== undefined ? rng.next() * spreadMs : this.#backoffMs(failures);
        hints = 0;
      } catch (failure) {
        if (signal.aborted) return;
        leader = leaderHint(failure);
        if (leader !== undefined && leader !== address && hints < hintsMax) {
          hints += 1;
          log.debug({ manager: address, leader }, "another manager leads");
          continue;
        }
        leader = undefined;
        hints = 0;
        failures += 1;
        waitMs = this.#backoffMs(failures);
        log.warn({ manager: address, error: messageOf(failure), failures }, "no session with this manager");
      }
      await pause(clock, waitMs, signal);
    }
  }

  /** Grows with every round of all managers, not with every manager. */
  #backoffMs(failures: number): number {
    return backoffMs(reconnect, Math.ceil(failures / this.#managers.length), this.#options.rng);
  }

  /** Ends with the session; rejects when it could not begin. Answers how long it lasted, and who leads if that was said. */
  async #session(address: string, outer: AbortSignal): Promise<{ lastedMs: number; leader: string | undefined }> {
    const { clock, log, nodeId, describe } = this.#options;
    const description = await describe();
    // An aborted signal tells nobody who begins to listen now: the session would outlive the agent's end.
    outer.throwIfAborted();
    const controller = new AbortController();
    const end = (reason: unknown) => controller.abort(reason);
    const onOuter = () => end(outer.reason);
    outer.addEventListener("abort", onOuter, { once: true });
    const client = new DispatcherClient(address, credentials.createInsecure(), {
      "grpc.keepalive_time_ms": 3_000,
      "grpc.keepalive_timeout_ms": 3_000,
      "grpc.keepalive_permit_without_calls": 1,
      "grpc.max_receive_message_length": messageBytesMax,
      // Reconnecting is this class's part: another manager may be the better one.
      "grpc.enable_retries": 0,
      ...this.#options.channel,
    });
    const { signal } = controller;
    try {
      const sentMs = clock.monotonic();
      const stream = messages(client.register({ nodeId, description }), signal);
      const cancelConnect = clock.after(connectMs, () => {
        if (client.getChannel().getConnectivityState(false) !== connectivityState.READY)
          end(new ClusterError("deadline_exceeded", `connect to ${address}: not within ${connectMs} ms`));
      });
      const register = () => stream.next().finally(cancelConnect);
      const first = await withDeadline(clock, registerMs, `register with ${address}`, register, signal);
      if (first.done === true) throw new ClusterError("unavailable", `${address} ended the session at once`);
      const fromMs = clock.monotonic();
      const { sessionId } = first.value;
      log.info({ manager: address, session: sessionId }, "session begun");
      this.#options.onContact(sentMs, true);
      this.#take(first.value);
      this.#connected = true;
      for (const [taskId, status] of this.#options.statuses()) this.#reporter.status(taskId, status);
      for (const [taskId, active] of this.#options.drains()) this.#reporter.drain(taskId, active);
      this.#reporter.problems(this.#options.problems());
      const parts = [
        this.#hold(stream),
        this.#beat(client, sessionId, first.value.heartbeatPeriodMs, signal),
        this.#reopening("assignments", signal, () => this.#follow(client, sessionId, signal)),
        this.#reopening("log subscriptions", signal, () =>
          publishLogs(client, sessionId, this.#options.logs, { clock, log }, signal),
        ),
        this.#reporter.run(
          sessionId,
          (request) =>
            unary((done) => client.updateStatus(request, new Metadata(), { deadline: clock.now() + callMs }, done)),
          signal,
        ),
      ];
      let leader: string | undefined;
      try {
        // The first part that ends, ends the session.
        await Promise.race(parts);
        log.info({ manager: address, session: sessionId }, "session ended by the manager");
      } catch (failure) {
        leader = leaderHint(failure);
        if (!outer.aborted)
          log.warn({ manager: address, session: sessionId, error: messageOf(failure) }, "session lost");
      }
      this.#connected = false;
      end(new DOMException("the session ended", "AbortError"));
      await Promise.allSettled(parts);
      return { lastedMs: clock.monotonic() - fromMs, leader };
    } finally {
      this.#connected = false;
      end(new DOMException("the session ended", "AbortError"));
      outer.removeEventListener("abort", onOuter);
      client.close();
    }
  }

  #take(message: SessionMessage): void {
    const { cluster, node, managers } = message;
    if (cluster?.meta === undefined || node?.meta === undefined || node.description === undefined || node.subnet === "")
      throw new ClusterError(
        "invalid_argument",
        "the manager's session message lacks the cluster, the node or its subnet",
      );
    this.#managers = distinct([...this.#options.managers, ...managers]).slice(0, managersMax);
    this.#options.onSession({ cluster: cluster as Cluster, node: node as Node }, managers);
  }

  async #hold(stream: AsyncGenerator<SessionMessage, void, undefined>): Promise<void> {
    for await (const message of stream) this.#take(message);
  }

  async #beat(client: DispatcherClient, sessionId: string, firstPeriodMs: number, signal: AbortSignal): Promise<void> {
    const { clock, rng } = this.#options;
    let periodMs = firstPeriodMs;
    let missed = 0;
    for (;;) {
      await sleep(clock, periodMs * (0.9 + 0.2 * rng.next()), signal);
      const sentMs = clock.monotonic();
      try {
        const deadline = clock.now() + Math.max(1_000, periodMs);
        const answer = await unary<{ periodMs: number }>((done) =>
          client.heartbeat({ sessionId }, new Metadata(), { deadline }, done),
        );
        periodMs = answer.periodMs;
        missed = 0;
        this.#options.onContact(sentMs, false);
      } catch (failure) {
        missed += 1;
        if (missed >= missedMax || sessionIsOver(failure)) throw failure;
      }
    }
  }

  /** A stream that ended while the session lives is opened again; others mean that the session is over. */
  async #reopening(what: string, signal: AbortSignal, follow: () => Promise<void>): Promise<void> {
    const { clock, rng, log } = this.#options;
    for (let failures = 0; !signal.aborted; ) {
      const fromMs = clock.monotonic();
      try {
        await follow();
        signal.throwIfAborted();
        log.debug({ stream: what }, "stream ended: opening it again");
      } catch (failure) {
        signal.throwIfAborted();
        if (sessionIsOver(failure)) throw failure;
        log.warn({ stream: what, error: messageOf(failure) }, "stream failed: opening it again");
      }
      failures = clock.monotonic() - fromMs > reopen.maxMs ? 1 : failures + 1;
      await sleep(clock, backoffMs(reopen, failures, rng), signal);
    }
  }

  /** Assignments in order, without a gap; ends at one, so that the stream is opened again with everything. */
  async #follow(client: DispatcherClient, sessionId: string, signal: AbortSignal): Promise<void> {
    let at: string | undefined;
    for await (const message of messages(client.assignments({ sessionId }), signal)) {
      const isComplete = message.kind === AssignmentsKind.COMPLETE;
      if (!isComplete && message.appliesTo !== at) {
        this.#options.log.warn({ have: at, appliesTo: message.appliesTo }, "a gap in the assignments: asking for all");
        return;
      }
      at = message.resultsIn;
      this.#options.onAssignments(message);
    }
  }
}

/** The leader's address, where a manager that is not the leader named it. */
function leaderHint(failure: unknown): string | undefined {
  if (!(failure instanceof ClusterError) || failure.code !== "not_leader") return undefined;
  const address = failure.details["leader"];
  return address === undefined || address === "" ? undefined : address;
}

function distinct(addresses: readonly string[]): string[] {
  return [...new Set(addresses)];
}
