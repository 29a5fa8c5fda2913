// The view of what etcd holds. It changes in the order of etcd's revisions and in no other, whoever wrote and however
// the news came: every manager goes through the same states.

import { ClusterError, messageOf } from "../../../lib/mod.js";
import { type Objects, type Table, tables } from "../../../proto/mod.js";
import { type EncodedWrite, decodeObject } from "../committer.js";
import type { History } from "../history.js";
import type { Change, Commit } from "../store.js";
import { LiveView, tablesOf } from "../view.js";
import type { KeyMeaning, Keys } from "./keys.js";

/** A key as etcd has it, or, without a value, as it no longer has it. */
export interface Entry {
  key: Buffer;
  value: Buffer | undefined;
  modRevision: number;
}

export class Replica {
  readonly view = new LiveView();
  readonly #keys: Keys;
  readonly #history: History;
  /** Everything that etcd did up to here is in the view, and nothing after it. */
  #applied = 0;
  #namesRevision = 0;
  readonly #markers = new Map<string, number>();
  readonly #waiting = new Set<() => void>();

  constructor(keys: Keys, history: History) {
    this.#keys = keys;
    this.#history = history;
  }

  get applied(): number {
    return this.#applied;
  }

  /** Of the last transaction that named a service; 0 before the first. */
  get namesRevision(): number {
    return this.#namesRevision;
  }

  /** The mod_revision of each open store's marker, by writer. */
  get markers(): ReadonlyMap<string, number> {
    return this.#markers;
  }

  /** The entries of one revision, in any order. A revision that is already in is ignored: streams repeat themselves. */
  apply(revision: number, entries: readonly Entry[]): void {
    if (revision <= this.#applied) return;
    const changes: Change[] = [];
    for (const entry of entries) {
      const meaning = this.#keys.meaning(entry.key);
      if (meaning.kind === "object") {
        const change = this.#changeOf(meaning, entry);
        if (change !== undefined) changes.push(change);
      } else this.#note(meaning, entry);
    }
    this.#advance(revision, changes);
  }

  /**
   * What this process committed itself, at `revision`, without waiting for the watch. Only when it is the very next
   * one: etcd gives each transaction that writes a revision one higher than the last, so nothing of anybody else's
   * lies in between. False when something does; then the watch brings both, in order.
   */
  applyOwn(revision: number, writes: readonly EncodedWrite[], noted: { writer: string; names: boolean }): boolean {
    if (revision !== this.#applied + 1) return revision <= this.#applied;
    this.#markers.set(noted.writer, revision);
    if (noted.names) this.#namesRevision = revision;
    this.#advance(
      revision,
      writes.map(({ table, id, bytes }) =>
        this.view.changeTo(table, id, bytes === undefined ? undefined : decodeObject(table, bytes, revision)),
      ),
    );
    return true;
  }

  /** Everything that etcd held at `revision`: what differs is one commit for subscribers; watches start again. */
  reset(revision: number, entries: Iterable<Entry>): void {
    // Own transactions may have come in while it was being read.
    if (revision < this.#applied) return;
    const present = new Map<Table, Set<string>>(tables.map((table) => [table, new Set<string>()]));
    const changes: Change[] = [];
    this.#markers.clear();
    for (const entry of entries) {
      const meaning = this.#keys.meaning(entry.key);
      if (meaning.kind === "object") {
        present.get(meaning.table)?.add(meaning.id);
        const known = tablesOf(this.view)[meaning.table].get(meaning.id);
        if (known?.meta.version === entry.modRevision) continue;
        const change = this.#changeOf(meaning, entry);
        if (change !== undefined) changes.push(change);
      } else this.#note(meaning, entry);
    }
    for (const table of tables)
      for (const { meta } of tablesOf(this.view)[table].values())
        if (present.get(table)?.has(meta.id) !== true) changes.push(this.view.changeTo(table, meta.id, undefined));
    this.#advance(revision, changes, (commit) => this.#history.cut(commit));
  }

  /** Resolves true once `holds`, looking after every change; false when the signal aborts first. */
  until(holds: () => boolean, signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      const look = () => {
        if (holds()) settle(true);
      };
      const stop = () => settle(false);
      const settle = (held: boolean) => {
        this.#waiting.delete(look);
        signal.removeEventListener("abort", stop);
        resolve(held);
      };
      this.#waiting.add(look);
      signal.addEventListener("abort", stop, { once: true });
      if (signal.aborted) stop();
      else look();
    });
  }

  #advance(
    revision: number,
    changes: Change[],
    remember: (commit: Commit) => void = (commit) => this.#history.add(commit),
  ): void {
    this.#applied = revision;
    if (changes.length > 0) {
      const commit = { revision, changes };
      this.view.apply(commit);
      remember(commit);
    }
    for (const look of Array.from(this.#waiting)) look();
  }

  #note(meaning: KeyMeaning, entry: Entry): void {
    if (meaning.kind === "names") this.#namesRevision = entry.value === undefined ? 0 : entry.modRevision;
    if (meaning.kind !== "marker") return;
    if (entry.value === undefined) this.#markers.delete(meaning.writer);
    else this.#markers.set(meaning.writer, entry.modRevision);
  }

  /** Undefined when nothing changes: a key that went before anybody saw it. */
  #changeOf({ table, id }: { table: Table; id: string }, entry: Entry): Change | undefined {
    if (entry.value !== undefined) return this.view.changeTo(table, id, this.#decode(table, id, entry.value, entry));
    return tablesOf(this.view)[table].get(id) === undefined ? undefined : this.view.changeTo(table, id, undefined);
  }

  #decode<K extends Table>(table: K, id: string, value: Buffer, entry: Entry): Objects[K] {
    try {
      const object = decodeObject(table, value, entry.modRevision);
      if (object.meta.id !== id) throw new Error(`it has the id ${JSON.stringify(object.meta.id)}`);
      return object;
    } catch (error) {
      throw new ClusterError(
        "failed_precondition",
        `etcd: refused: ${entry.key.toString()} is not an object that Flotilla wrote (${messageOf(error)}); repair or delete that key`,
        { cause: error },
      );
    }
  }
}
