// A transaction as a layer of writes over a view. Layers stack: each update runs in its own layer over that of its
// group, so that an update that throws leaves no trace and the next one sees what those before it wrote.

import {
  type Cluster,
  type Node,
  type Objects,
  type Revision,
  type Rollout,
  type Service,
  type Table,
  type Task,
  tables,
} from "../../proto/mod.js";
import { ClusterError } from "../../lib/mod.js";
import { type TableView, type Transaction, type View, writesPerTransactionMax } from "./store.js";

/** The longest id that the store takes; it becomes part of a key. */
const idLengthMax = 128;

/** One object as a layer leaves it; `after` is undefined when it was removed. */
export type Write = {
  [K in Table]: { table: K; id: string; after: Objects[K] | undefined };
}[Table];

class LayerTable<T extends { meta: { id: string } }> implements TableView<T> {
  readonly base: TableView<T>;
  readonly written = new Map<string, T | undefined>();
  #sizeDelta = 0;

  constructor(base: TableView<T>) {
    this.base = base;
  }

  get(id: string): T | undefined {
    return this.written.has(id) ? this.written.get(id) : this.base.get(id);
  }

  values(): IterableIterator<T> {
    return this.merge(this.base.values(), () => true);
  }

  get size(): number {
    return this.base.size + this.#sizeDelta;
  }

  set(id: string, object: T | undefined): void {
    this.#sizeDelta += Number(object !== undefined) - Number(this.get(id) !== undefined);
    if (object === undefined && this.base.get(id) === undefined) this.written.delete(id);
    else this.written.set(id, object);
  }

  /**
   * `below`, a selection of the base, as it is in this layer: `belongs` selects. It shows the moment of this call: a
   * loop that writes what it visits neither misses an object nor meets one twice.
   */
  merge(below: Iterable<T>, belongs: (object: T) => boolean): IterableIterator<T> {
    return mergeLayers(below, new Map(this.written), belongs);
  }
}

function* mergeLayers<T extends { meta: { id: string } }>(
  below: Iterable<T>,
  written: ReadonlyMap<string, T | undefined>,
  belongs: (object: T) => boolean,
): Generator<T, void, undefined> {
  for (const object of below) if (!written.has(object.meta.id)) yield object;
  for (const object of written.values()) if (object !== undefined && belongs(object)) yield object;
}

export class Layer implements Transaction {
  readonly #base: View;
  readonly clusters: LayerTable<Cluster>;
  readonly services: LayerTable<Service>;
  readonly revisions: LayerTable<Revision>;
  readonly tasks: LayerTable<Task>;
  readonly nodes: LayerTable<Node>;
  readonly rollouts: LayerTable<Rollout>;
  #ended = false;

  constructor(base: View) {
    this.#base = base;
    this.clusters = new LayerTable(base.clusters);
    this.services = new LayerTable(base.services);
    this.revisions = new LayerTable(base.revisions);
    this.tasks = new LayerTable(base.tasks);
    this.nodes = new LayerTable(base.nodes);
    this.rollouts = new LayerTable(base.rollouts);
  }

  get revision(): number {
    return this.#base.revision;
  }

  serviceByName(name: string): Service | undefined {
    for (const service of this.services.written.values()) if (service?.spec.name === name) return service;
    const below = this.#base.serviceByName(name);
    return below === undefined || this.services.written.has(below.meta.id) ? undefined : below;
  }

  tasksOfService(serviceId: string): Iterable<Task> {
    return this.tasks.merge(this.#base.tasksOfService(serviceId), (task) => task.serviceId === serviceId);
  }

  tasksOfNode(nodeId: string): Iterable<Task> {
    return this.tasks.merge(this.#base.tasksOfNode(nodeId), (task) => task.nodeId === nodeId);
  }

  revisionsOfService(serviceId: string): Revision[] {
    const below = this.#base.revisionsOfService(serviceId);
    return [...this.revisions.merge(below, (revision) => revision.serviceId === serviceId)].sort(
      (a, b) => a.number - b.number,
    );
  }

  revisionOfService(serviceId: string, number: number): Revision | undefined {
    return this.revisionsOfService(serviceId).find((revision) => revision.number === number);
  }

  create<K extends Table>(table: K, object: Objects[K]): void {
    const id = requireId(table, object);
    if (this.#table(table).get(id) !== undefined)
      throw new ClusterError("already_exists", `${table}: the id ${JSON.stringify(id)} is taken`);
    // A version that the caller brings along belongs to some other object.
    this.#write(table, id, { ...object, meta: { ...object.meta, version: 0 } });
  }

  put<K extends Table>(table: K, object: Objects[K]): void {
    const id = requireId(table, object);
    const there = this.#table(table).get(id);
    if (there === undefined)
      throw new ClusterError("conflict", `${table}: ${JSON.stringify(id)} was removed by somebody else`);
    if (there.meta.version !== object.meta.version)
      throw new ClusterError(
        "conflict",
        `${table}: ${JSON.stringify(id)} was changed by somebody else: read it again and decide again`,
        { details: { seen: String(object.meta.version), found: String(there.meta.version) } },
      );
    // An object keeps its version within one update: written twice, it still goes by what was committed.
    this.#write(table, id, object);
  }

  remove(table: Table, id: string): void {
    if (this.#table(table).get(id) === undefined)
      throw new ClusterError("not_found", `${table}: there is no ${JSON.stringify(id)}`);
    this.#write(table, id, undefined);
  }

  /** What changed against the base, each object once. */
  writes(): Write[] {
    const writes: Write[] = [];
    // Id and object belong to the same table, which the compiler cannot follow through the union.
    for (const table of tables)
      for (const [id, after] of this.#table(table).written) writes.push({ table, id, after } as Write);
    return writes;
  }

  get writeCount(): number {
    return (
      this.clusters.written.size +
      this.services.written.size +
      this.revisions.written.size +
      this.tasks.written.size +
      this.nodes.written.size +
      this.rollouts.written.size
    );
  }

  /** Takes over a write of a layer above, without its checks: that layer made them. */
  absorb<K extends Table>(table: K, id: string, after: Objects[K] | undefined): void {
    this.#table(table).set(id, after);
  }

  /** A transaction that somebody kept must not lose writes silently. */
  end(): void {
    this.#ended = true;
  }

  #write<K extends Table>(table: K, id: string, after: Objects[K] | undefined): void {
    if (this.#ended) throw new Error("the transaction was used after its function had returned");
    if (table === "services" && after !== undefined) this.#requireFreeName(after as Service);
    this.#table(table).set(id, after);
    if (this.writeCount > writesPerTransactionMax)
      throw new ClusterError(
        "resource_exhausted",
        `a transaction may write at most ${writesPerTransactionMax} objects: split the work into several`,
      );
  }

  #requireFreeName(service: Service): void {
    const { name } = service.spec;
    const other = this.serviceByName(name);
    if (other === undefined || other.meta.id === service.meta.id) return;
    const violation = {
      field: "name",
      value: name,
      rule: `is already the name of service ${other.meta.id}`,
      fix: "choose another name, or update that service",
    };
    throw new ClusterError("already_exists", `name: ${JSON.stringify(name)} ${violation.rule}; ${violation.fix}`, {
      violations: [violation],
    });
  }

  #table<K extends Table>(table: K): LayerTable<Objects[K]> {
    return layerTables(this)[table];
  }
}

function requireId<K extends Table>(table: K, object: Objects[K]): string {
  const { id } = object.meta;
  if (id !== "" && id.length <= idLengthMax && !id.includes("/")) return id;
  throw ClusterError.invalid([
    {
      field: `${table}.meta.id`,
      value: id,
      rule: `must have 1 to ${idLengthMax} characters and no "/"`,
      fix: "use an id from Rng.id()",
    },
  ]);
}

function layerTables(layer: Layer): { readonly [K in Table]: LayerTable<Objects[K]> } {
  return layer;
}
