// What every agent is told alike: routes and the names of nodes. One state for all sessions, with a revision; a session
// keeps only the revision it has been told. The whole of it and what changed from one revision to another are encoded
// once each and handed to everyone who needs the same: with thousands of agents, doing it for each would be most of
// what the leader does.

import { AssignmentChange } from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import type { Node, Route } from "../../proto/mod.js";

/** Changes that agents are told alike, and their bytes as they stand in AssignmentsMessage. */
export interface SharedSection {
  readonly changes: readonly AssignmentChange[];
  readonly bytes: Uint8Array;
}

interface Item {
  readonly change: AssignmentChange;
  /** As one of AssignmentsMessage.changes, with tag and length. */
  readonly bytes: Uint8Array;
  readonly revision: number;
  /** Of the whole, when it is in there: what was removed is not, and is only told to those who had it. */
  readonly segment: Segment | undefined;
}

/** A part of the whole, joined again only when something in it changed. */
interface Segment {
  readonly items: Map<string, Item>;
  joined: Uint8Array | undefined;
}

/** Of routes, and as many of nodes: only that part of the whole is joined anew in which something changed. */
const segments = 64;
/** Changes that are kept before looking which of them nobody needs any more. */
const trimFrom = 1_024;
/** Revisions for which what came since is kept. */
const sinceMax = 64;
/** AssignmentsMessage.changes: field 4, with a length. */
const changesTag = (4 << 3) | 2;
const nothing: SharedSection = { changes: [], bytes: new Uint8Array(0) };

/** Where the key's item belongs: any spread will do, as long as it is always the same; routes come before nodes. */
function segmentOf(key: string): number {
  let hash = 0;
  for (let i = 0; i < key.length; i += 1) hash = (hash * 31 + key.charCodeAt(i)) >>> 0;
  return (hash % segments) + (key.startsWith("route ") ? 0 : segments);
}

function framed(change: AssignmentChange): Uint8Array {
  const bytes = AssignmentChange.encode(change).finish();
  const head = [changesTag];
  let length = bytes.length;
  for (; length > 127; length >>>= 7) head.push((length & 127) | 128);
  head.push(length);
  return Buffer.concat([Uint8Array.from(head), bytes]);
}

export class SharedState {
  /** By kind and id; with what was removed, as long as somebody may have it. */
  readonly #items = new Map<string, Item>();
  readonly #segments = Array.from({ length: segments * 2 }, (): Segment => ({ items: new Map(), joined: undefined }));
  /** In order of revision. An item is in it once for each change; only the newest counts. */
  #log: { key: string; revision: number }[] = [];
  #trimAt = trimFrom;
  #revision = 0;
  #whole: { revision: number; section: SharedSection } | undefined;
  /** Up to the revision now, by the revision from which. */
  #since = new Map<number, SharedSection>();

  /** Grows with every change. */
  get revision(): number {
    return this.#revision;
  }

  setRoute(id: string, route: Route | undefined): void {
    if (route !== undefined) this.#put(`route ${id}`, { item: { $case: "route", value: route } }, true);
    else this.#put(`route ${id}`, { item: { $case: "removedRouteId", value: id } }, false);
  }

  /** What a node's name stands for, on every host. */
  setNode(id: string, node: Node | undefined): void {
    if (node === undefined) {
      this.#put(`node ${id}`, { item: { $case: "removedNodeId", value: id } }, false);
      return;
    }
    const { hostname, advertiseAddress: address } = node.description;
    this.#put(`node ${id}`, { item: { $case: "node", value: { id, hostname, address } } }, true);
  }

  /** Everything as it is now. */
  whole(): SharedSection {
    if (this.#whole?.revision === this.#revision) return this.#whole.section;
    const parts = this.#segments.map((segment) => {
      segment.joined ??= Buffer.concat([...segment.items.values()].map(({ bytes }) => bytes));
      return segment.joined;
    });
    const changes = this.#segments.flatMap(({ items }) => [...items.values()].map(({ change }) => change));
    const section = { changes, bytes: Buffer.concat(parts) };
    this.#whole = { revision: this.#revision, section };
    return section;
  }

  /** What takes somebody who was told everything up to that revision to the one now. */
  since(revision: number): SharedSection {
    if (revision >= this.#revision) return nothing;
    let section = this.#since.get(revision);
    if (section !== undefined) return section;
    const news: Item[] = [];
    for (let i = this.#log.length - 1; i >= 0; i -= 1) {
      const entry = this.#log[i];
      if (entry === undefined || entry.revision <= revision) break;
      const item = this.#items.get(entry.key);
      if (item?.revision === entry.revision) news.push(item);
    }
    news.reverse();
    section = { changes: news.map(({ change }) => change), bytes: Buffer.concat(news.map(({ bytes }) => bytes)) };
    // Most ask for the same few revisions; of those who do not, each may have been told last at another.
    for (const oldest of this.#since.keys()) {
      if (this.#since.size < sinceMax) break;
      this.#since.delete(oldest);
    }
    this.#since.set(revision, section);
    return section;
  }

  /** Whether enough has changed for a `trim` to be worth its while. */
  get isLong(): boolean {
    return this.#log.length >= this.#trimAt;
  }

  /**
   * Forgets what everybody has been told who was told everything up to that revision. What is left is the newest change
   * of each item, however slow the slowest reader is.
   */
  trim(revision: number): void {
    for (const { key, revision: at } of this.#log) {
      const item = this.#items.get(key);
      if (item?.segment === undefined && item?.revision === at && at <= revision) this.#items.delete(key);
    }
    this.#log = this.#log.filter(({ key, revision: at }) => at > revision && this.#items.get(key)?.revision === at);
    this.#trimAt = Math.max(trimFrom, this.#log.length * 2);
    this.#since = new Map();
  }

  #put(key: string, change: AssignmentChange, isThere: boolean): void {
    const before = this.#items.get(key);
    if (!isThere && before?.segment === undefined) return;
    this.#revision += 1;
    const segment = before?.segment ?? this.#segments[segmentOf(key)];
    const item = { change, bytes: framed(change), revision: this.#revision, segment: isThere ? segment : undefined };
    if (segment !== undefined) segment.joined = undefined;
    if (isThere) segment?.items.set(key, item);
    else segment?.items.delete(key);
    this.#items.set(key, item);
    this.#log.push({ key, revision: this.#revision });
    this.#since = new Map();
  }
}
