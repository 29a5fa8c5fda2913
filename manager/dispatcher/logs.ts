// The log broker: a user asks for a service's logs here, the agents publish them here. Lines pass through, paced by
// the user's reader; nothing is kept.

import { BoundedStream, ClusterError, type Rng } from "../../lib/mod.js";
import { type Task, TaskState } from "../../proto/mod.js";
import type { ServiceLogsResponse } from "../../proto/gen/flotilla/control/v1/control.js";
import type { LogOptions, PublishLogsRequest } from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import type { Store } from "../store/mod.js";
import type { Sessions } from "./sessions.js";

/** Messages of all nodes that wait for one reader; each holds at most what an agent puts into one. */
const bufferedMessagesMax = 64;

/** One user's request; open while the user listens. */
interface Reader {
  id: string;
  serviceId: string;
  taskId: string;
  options: LogOptions;
  out: BoundedStream<{ response: ServiceLogsResponse; credited: boolean }>;
  /** Waits until the user has read; the publishers stand in line. */
  credit: Credit;
  /** Subscriptions that agents still publish for. */
  open: Set<string>;
  /** Tasks that were asked for already. */
  asked: Set<string>;
  /** By task, the time of its newest line. */
  newestMs: Map<string, number>;
  /** Tasks whose agent was away and is asked again: lines from before this time have been read. */
  resumedFromMs: Map<string, number>;
  part: number;
}

/** Lets publishers continue only while fewer than `max` messages are unread. */
class Credit {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(max: number) {
    this.#free = max;
  }

  async take(): Promise<void> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  give(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free += 1;
    else next();
  }

  /** Lets everybody go; for the end. */
  release(): void {
    this.#free = Number.POSITIVE_INFINITY;
    for (const next of this.#waiting.splice(0)) next();
  }
}

function warn(reader: Reader, warning: string): void {
  reader.out.push({ response: { lines: [], warning }, credited: false });
}

/** As the user asked; for tasks that were interrupted, from there on. What one of them had earlier is left out later. */
function optionsFor({ options, resumedFromMs }: Reader, taskIds: readonly string[]): LogOptions {
  const from = taskIds.map((id) => resumedFromMs.get(id)).filter((atMs) => atMs !== undefined);
  return from.length === 0 ? options : { ...options, tail: undefined, sinceMs: Math.min(...from) };
}

export class LogBroker {
  readonly #store: Store;
  readonly #sessions: Sessions;
  readonly #rng: Rng;
  readonly #readers = new Map<string, Reader>();
  /** By the id of the subscription that an agent was sent. */
  readonly #bySubscription = new Map<string, { reader: Reader; nodeId: string; subscriptionId: string }>();
  /** Why nothing is read here any more. */
  #farewell: ClusterError | undefined;

  constructor(store: Store, sessions: Sessions, rng: Rng) {
    this.#store = store;
    this.#sessions = sessions;
    this.#rng = rng;
  }

  /** Lines of the service's tasks, or of one of them, until all ended or, when following, until the reader leaves. */
  async *read(
    serviceId: string,
    taskId: string,
    options: LogOptions,
    signal: AbortSignal,
  ): AsyncGenerator<ServiceLogsResponse> {
    if (this.#farewell !== undefined) throw this.#farewell;
    const id = this.#rng.id();
    const reader: Reader = {
      id,
      serviceId,
      taskId,
      options,
      out: new BoundedStream(`logs ${id}`, bufferedMessagesMax + 1_000),
      credit: new Credit(bufferedMessagesMax),
      open: new Set(),
      asked: new Set(),
      newestMs: new Map(),
      resumedFromMs: new Map(),
      part: 0,
    };
    this.#readers.set(id, reader);
    const stop = () => reader.out.end();
    signal.addEventListener("abort", stop, { once: true });
    const unsubscribe = this.#store.subscribe(({ changes }) => {
      if (!options.follow) return;
      if (changes.some(({ table, after }) => table === "tasks" && after?.serviceId === serviceId)) this.#ask(reader);
      if (this.#store.view().services.get(serviceId) === undefined) reader.out.end();
    });
    try {
      this.#ask(reader);
      this.#endIfDone(reader);
      for await (const { response, credited } of reader.out) {
        yield response;
        if (credited) reader.credit.give();
      }
    } finally {
      unsubscribe();
      signal.removeEventListener("abort", stop);
      this.#close(reader);
    }
  }

  /** Agents publish elsewhere from now on: readers are told, and begin again there. */
  end(farewell: ClusterError): void {
    this.#farewell = farewell;
    for (const reader of [...this.#readers.values()]) reader.out.end(farewell);
  }

  /** An agent's call; ends early when nobody listens any more. The subscription's random id is its ticket. */
  async publish(requests: AsyncIterable<PublishLogsRequest>): Promise<void> {
    let subscription: { reader: Reader; nodeId: string; subscriptionId: string } | undefined;
    try {
      for await (const request of requests) {
        subscription ??= this.#bySubscription.get(request.subscriptionId);
        if (subscription === undefined)
          throw new ClusterError("cancelled", "nobody listens to this log subscription any more");
        const { reader } = subscription;
        if (!this.#readers.has(reader.id)) throw new ClusterError("cancelled", "the reader of these logs has left");
        await reader.credit.take();
        const lines = request.lines.filter(({ taskId, atMs }) => atMs >= (reader.resumedFromMs.get(taskId) ?? 0));
        for (const { taskId, atMs } of lines) reader.newestMs.set(taskId, atMs);
        reader.out.push({ response: { lines, warning: request.error }, credited: true });
      }
    } finally {
      if (subscription !== undefined) this.#publisherEnded(subscription.reader, subscription.subscriptionId);
    }
  }

  /** The session is gone: what it was asked for will not come. */
  sessionEnded(nodeId: string): void {
    for (const { reader, nodeId: of, subscriptionId } of [...this.#bySubscription.values()]) {
      if (of !== nodeId || !reader.open.has(subscriptionId)) continue;
      const name = this.#store.view().nodes.get(nodeId)?.description.hostname ?? nodeId;
      warn(reader, `node ${name} is not connected; its logs are missing from here on`);
      this.#publisherEnded(reader, subscriptionId);
    }
  }

  /** A node's agent has just opened its log stream: readers that follow want to hear from it again. */
  sessionOpened(nodeId: string): void {
    // With the stream before this one, the agent ended what it had been asked there.
    this.sessionEnded(nodeId);
    for (const reader of this.#readers.values()) {
      if (!reader.options.follow) continue;
      for (const id of reader.asked) {
        if (this.#store.view().tasks.get(id)?.nodeId !== nodeId) continue;
        reader.asked.delete(id);
        const newestMs = reader.newestMs.get(id);
        if (newestMs !== undefined) reader.resumedFromMs.set(id, newestMs);
      }
      this.#ask(reader);
    }
  }

  /** Asks the nodes for tasks that they were not asked for yet. */
  #ask(reader: Reader): void {
    const view = this.#store.view();
    /** By node; those that go on where they were interrupted apart. */
    const groups = new Map<string, Task[]>();
    for (const task of view.tasksOfService(reader.serviceId)) {
      const { id } = task.meta;
      if (reader.asked.has(id) || task.nodeId === "" || (reader.taskId !== "" && reader.taskId !== id)) continue;
      // Nothing to read before there is a container.
      if (task.status.state < TaskState.STARTING && task.status.container === undefined) continue;
      reader.asked.add(id);
      const key = `${task.nodeId} ${reader.resumedFromMs.has(id)}`;
      const group = groups.get(key);
      if (group === undefined) groups.set(key, [task]);
      else group.push(task);
    }
    for (const tasks of groups.values()) {
      const nodeId = tasks[0]?.nodeId ?? "";
      const session = this.#sessions.ofNode(nodeId);
      const name = view.nodes.get(nodeId)?.description.hostname ?? nodeId;
      reader.part += 1;
      const subscriptionId = `${reader.id}.${reader.part}`;
      const taskIds = tasks.map(({ meta }) => meta.id);
      const options = optionsFor(reader, taskIds);
      if (session?.logs?.push({ id: subscriptionId, closed: false, taskIds, options }) !== true) {
        warn(reader, `node ${name} is not connected; logs of its ${tasks.length} tasks are missing`);
        continue;
      }
      reader.open.add(subscriptionId);
      this.#bySubscription.set(subscriptionId, { reader, nodeId, subscriptionId });
    }
  }

  #publisherEnded(reader: Reader, subscriptionId: string): void {
    reader.open.delete(subscriptionId);
    this.#bySubscription.delete(subscriptionId);
    this.#endIfDone(reader);
  }

  #endIfDone(reader: Reader): void {
    if (!reader.options.follow && reader.open.size === 0) reader.out.end();
  }

  #close(reader: Reader): void {
    this.#readers.delete(reader.id);
    reader.credit.release();
    for (const subscriptionId of reader.open) {
      const subscription = this.#bySubscription.get(subscriptionId);
      this.#bySubscription.delete(subscriptionId);
      if (subscription === undefined) continue;
      this.#sessions
        .ofNode(subscription.nodeId)
        ?.logs?.push({ id: subscriptionId, closed: true, taskIds: [], options: undefined });
    }
  }
}
