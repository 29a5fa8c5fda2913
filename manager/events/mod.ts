// What happened, for people: derived from the store's commits, so that nothing can happen without being told, and
// told in order. The newest events are remembered for those who ask late.

import { BoundedStream, type Clock } from "../../lib/mod.js";
import { type Event, NodeAvailability, NodeState, RolloutState, type Task, TaskState } from "../../proto/mod.js";
import type { Change, Commit, Store } from "../store/mod.js";

/** Events that are remembered, at least; and those that a slow reader may be behind beyond what it asked for. */
const rememberedMax = 1_000;

type Told = Omit<Event, "sequence" | "atMs">;

function nameOf(states: Readonly<Record<string, number>>, state: number): string {
  return (Object.keys(states).find((key) => states[key] === state) ?? String(state)).toLowerCase();
}

function taskName(task: Task): string {
  return `${task.serviceName}.${task.slot}`;
}

function ofTask(before: Task | undefined, after: Task | undefined): Told[] {
  const task = after ?? before;
  if (task === undefined || after === undefined) return [];
  const told = (action: string, message: string): Told => ({
    kind: "task",
    action,
    id: task.meta.id,
    name: taskName(task),
    message,
    cause: "",
  });
  const events: Told[] = [];
  if (before === undefined) events.push(told("created", after.cause));
  else if (before.status.state !== after.status.state) {
    const reason = after.status.error === "" ? after.status.message : after.status.error;
    events.push(
      told(nameOf(TaskState, after.status.state), after.nodeId === "" ? reason : `${reason} on ${after.nodeId}`),
    );
  }
  if (before !== undefined && before.placementMessage !== after.placementMessage && after.placementMessage !== "")
    events.push(told("pending", after.placementMessage));
  const attempts = [before?.status.container?.attempt ?? 0, after.status.container?.attempt ?? 0] as const;
  if (attempts[0] > 0 && attempts[1] > attempts[0]) events.push(told("restarted", `in place, attempt ${attempts[1]}`));
  if ((before?.readySinceMs ?? 0) === 0 && after.readySinceMs > 0) events.push(told("ready", after.status.message));
  return events;
}

/** The events of one change; none for what no user cares about. */
export function describe(change: Change): Told[] {
  switch (change.table) {
    case "tasks":
      return ofTask(change.before, change.after);
    case "services": {
      const { before, after } = change;
      const service = after ?? before;
      if (service === undefined) return [];
      const told = (action: string, message: string): Told[] => [
        { kind: "service", action, id: service.meta.id, name: service.spec.name, message, cause: "" },
      ];
      if (before === undefined) return told("created", service.spec.task.container.image);
      if (after === undefined) return told("removed", "");
      if (!before.removing && after.removing) return told("removing", "");
      return before.revision === after.revision ? [] : told("updated", `revision ${after.revision}`);
    }
    case "nodes": {
      const { before, after } = change;
      const node = after ?? before;
      if (node === undefined) return [];
      const told = (action: string, message: string): Told => ({
        kind: "node",
        action,
        id: node.meta.id,
        name: node.description.hostname,
        message,
        cause: "",
      });
      if (before === undefined) return [told("joined", `${node.description.advertiseAddress}, subnet ${node.subnet}`)];
      if (after === undefined) return [told("removed", "")];
      const events: Told[] = [];
      if (before.status.state !== after.status.state)
        events.push(told(nameOf(NodeState, after.status.state), after.status.message));
      for (const problem of after.problems)
        if (!before.problems.includes(problem)) events.push(told("problem", problem));
      for (const problem of before.problems)
        if (!after.problems.includes(problem)) events.push(told("solved", problem));
      if (before.spec.availability !== after.spec.availability)
        events.push(told(nameOf(NodeAvailability, after.spec.availability), "availability changed"));
      return events;
    }
    case "rollouts": {
      const { before, after } = change;
      if (after === undefined || before?.state === after.state) return [];
      const action = before === undefined ? "started" : nameOf(RolloutState, after.state);
      const message = `${after.isRollback ? "back " : ""}from revision ${after.fromRevision} to ${after.toRevision}${after.message === "" ? "" : `: ${after.message}`}`;
      return [{ kind: "rollout", action, id: after.meta.id, name: after.serviceId, message, cause: "" }];
    }
    case "clusters":
    case "revisions":
      return [];
    default:
      return change satisfies never;
  }
}

export class EventLog implements Disposable {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #unsubscribe: () => void;
  readonly #readers = new Set<BoundedStream<Event>>();
  #remembered: Event[] = [];
  #sequence = 0;

  constructor(store: Store, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
    this.#unsubscribe = store.subscribe((commit) => this.#onCommit(commit));
  }

  /** Remembered events since `sinceMs` when it is not 0, then new ones. `resync_required` for a reader too slow. */
  watch(sinceMs: number, signal: AbortSignal): AsyncIterable<Event> {
    const reader: BoundedStream<Event> = new BoundedStream("events", 3 * rememberedMax, () =>
      this.#readers.delete(reader),
    );
    if (sinceMs > 0) for (const event of this.#remembered) if (event.atMs >= sinceMs) reader.push(event);
    this.#readers.add(reader);
    if (signal.aborted) reader.end();
    signal.addEventListener("abort", () => reader.end(), { once: true });
    return reader;
  }

  /** Of one object, in order. */
  remembered(id: string): Event[] {
    return this.#remembered.filter((event) => event.id === id);
  }

  [Symbol.dispose](): void {
    this.#unsubscribe();
    for (const reader of [...this.#readers]) reader.end();
  }

  #onCommit({ changes }: Commit): void {
    const view = this.#store.view();
    for (const change of changes)
      for (const told of describe(change)) {
        this.#sequence += 1;
        // A rollout knows its service's id only; people know names.
        const name = told.kind === "rollout" ? (view.services.get(told.name)?.spec.name ?? told.name) : told.name;
        const event: Event = {
          ...told,
          name,
          message: this.#withNames(told.message),
          sequence: this.#sequence,
          atMs: this.#clock.now(),
        };
        this.#remembered.push(event);
        for (const reader of [...this.#readers]) reader.push(event);
      }
    if (this.#remembered.length > 2 * rememberedMax) this.#remembered = this.#remembered.slice(-rememberedMax);
  }

  /** Node ids in messages, as host names. */
  #withNames(message: string): string {
    return message.replace(/ on ([0-9a-z]{10,64})$/, (whole, id: string) => {
      const node = this.#store.view().nodes.get(id);
      return node === undefined ? whole : ` on ${node.description.hostname}`;
    });
  }
}
