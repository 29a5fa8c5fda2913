// All objects in memory with their secondary indexes. A commit costs as much as it changes, whatever the tables'
// size: nothing is copied, and an index keeps one entry per object.

import type { Cluster, Node, Objects, Revision, Rollout, Service, Table, Task } from "../../proto/mod.js";
import type { Change, Commit, TableView, View } from "./store.js";

/** Any view, seen as its tables: what code that is generic over the table's name indexes. */
export type TableViews = { readonly [K in Table]: TableView<Objects[K]> };

class LiveTable<T> implements TableView<T> {
  objects: Map<string, T> = new Map();

  get(id: string): T | undefined {
    return this.objects.get(id);
  }

  values(): IterableIterator<T> {
    return this.objects.values();
  }

  get size(): number {
    return this.objects.size;
  }
}

/** Objects by a key that several of them may share. */
class GroupIndex<T extends { meta: { id: string } }> {
  #groups = new Map<string, Map<string, T>>();
  readonly #keyOf: (object: T) => string;

  constructor(keyOf: (object: T) => string) {
    this.#keyOf = keyOf;
  }

  of(key: string): Iterable<T> {
    return this.#groups.get(key)?.values() ?? [];
  }

  change(before: T | undefined, after: T | undefined): void {
    const newKey = after === undefined ? undefined : this.#keyOf(after);
    if (before !== undefined) {
      const oldKey = this.#keyOf(before);
      if (oldKey !== newKey) this.#delete(oldKey, before.meta.id);
    }
    if (after === undefined || newKey === undefined) return;
    let group = this.#groups.get(newKey);
    if (group === undefined) {
      group = new Map();
      this.#groups.set(newKey, group);
    }
    group.set(after.meta.id, after);
  }

  takeOver(other: GroupIndex<T>): void {
    this.#groups = other.#groups;
  }

  #delete(key: string, id: string): void {
    const group = this.#groups.get(key);
    if (group === undefined) return;
    group.delete(id);
    // Keys come and go with services and nodes: an empty group left behind would be a leak.
    if (group.size === 0) this.#groups.delete(key);
  }
}

/** The objects as they are now. Only `apply` and `takeOver` change it. */
export class LiveView implements View {
  #revision = 0;
  readonly clusters = new LiveTable<Cluster>();
  readonly services = new LiveTable<Service>();
  readonly revisions = new LiveTable<Revision>();
  readonly tasks = new LiveTable<Task>();
  readonly nodes = new LiveTable<Node>();
  readonly rollouts = new LiveTable<Rollout>();
  readonly #servicesByName = new GroupIndex<Service>((service) => service.spec.name);
  readonly #revisionsByService = new GroupIndex<Revision>((revision) => revision.serviceId);
  readonly #tasksByService = new GroupIndex<Task>((task) => task.serviceId);
  readonly #tasksByNode = new GroupIndex<Task>((task) => task.nodeId);

  get revision(): number {
    return this.#revision;
  }

  serviceByName(name: string): Service | undefined {
    // More than one only when a foreign writer broke the rule; then any of them will do.
    for (const service of this.#servicesByName.of(name)) return service;
    return undefined;
  }

  tasksOfService(serviceId: string): Iterable<Task> {
    return this.#tasksByService.of(serviceId);
  }

  tasksOfNode(nodeId: string): Iterable<Task> {
    return this.#tasksByNode.of(nodeId);
  }

  revisionsOfService(serviceId: string): Revision[] {
    return [...this.#revisionsByService.of(serviceId)].sort((a, b) => a.number - b.number);
  }

  revisionOfService(serviceId: string, number: number): Revision | undefined {
    for (const revision of this.#revisionsByService.of(serviceId)) if (revision.number === number) return revision;
    return undefined;
  }

  /** The change that putting `after` at `id` (or removing what is there) makes to this view. */
  changeTo<K extends Table>(table: K, id: string, after: Objects[K] | undefined): Change {
    // K is one table: the parts belong together, which the compiler cannot follow through the union.
    return { table, before: tablesOf(this)[table].get(id), after } as Change;
  }

  /** Every change's `before` must be what is here now. */
  apply(commit: Commit): void {
    for (const change of commit.changes) {
      this.#write(change);
      switch (change.table) {
        case "services":
          this.#servicesByName.change(change.before, change.after);
          break;
        case "revisions":
          this.#revisionsByService.change(change.before, change.after);
          break;
        case "tasks":
          this.#tasksByService.change(change.before, change.after);
          this.#tasksByNode.change(change.before, change.after);
          break;
        case "clusters":
        case "nodes":
        case "rollouts":
          break;
      }
    }
    this.#revision = commit.revision;
  }

  /** Becomes what `other` is, at once and however much that is; `other` is not to be used any more. */
  takeOver(other: LiveView): void {
    this.clusters.objects = other.clusters.objects;
    this.services.objects = other.services.objects;
    this.revisions.objects = other.revisions.objects;
    this.tasks.objects = other.tasks.objects;
    this.nodes.objects = other.nodes.objects;
    this.rollouts.objects = other.rollouts.objects;
    this.#servicesByName.takeOver(other.#servicesByName);
    this.#revisionsByService.takeOver(other.#revisionsByService);
    this.#tasksByService.takeOver(other.#tasksByService);
    this.#tasksByNode.takeOver(other.#tasksByNode);
    this.#revision = other.#revision;
  }

  #write<K extends Table>(change: { table: K; before: Objects[K] | undefined; after: Objects[K] | undefined }): void {
    const { objects } = liveTables(this)[change.table];
    if (change.after !== undefined) objects.set(change.after.meta.id, change.after);
    else if (change.before !== undefined) objects.delete(change.before.meta.id);
  }
}

function liveTables(view: LiveView): { readonly [K in Table]: LiveTable<Objects[K]> } {
  return view;
}

export function tablesOf(view: View): TableViews {
  return view;
}
