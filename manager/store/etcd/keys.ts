// Where things are in etcd: everything of a cluster under one prefix.
//   /flotilla/<cluster>/<table>/<id>   an object
//   /flotilla/<cluster>/names          written by every transaction that gives a service a name
//   /flotilla/<cluster>/fence          which leader may write
//   /flotilla/<cluster>/txn/<writer>   the last transaction of one open store

import { type Table, tables } from "../../../proto/mod.js";

export type KeyMeaning =
  | { kind: "object"; table: Table; id: string }
  | { kind: "names" }
  | { kind: "marker"; writer: string }
  /** Of a newer version, or not ours: left alone. */
  | { kind: "other" };

const tableNames: ReadonlySet<string> = new Set(tables);

export class Keys {
  readonly prefix: string;
  readonly first: Buffer;
  /** After the last key with the prefix. */
  readonly end: Buffer;
  readonly names: Buffer;
  readonly fence: Buffer;
  /** The first and the end of the markers. */
  readonly markers: { first: Buffer; end: Buffer };

  constructor(cluster: string) {
    this.prefix = `/flotilla/${cluster}/`;
    this.first = Buffer.from(this.prefix);
    // "0" follows "/" in ASCII.
    this.end = Buffer.from(`/flotilla/${cluster}0`);
    this.names = Buffer.from(`${this.prefix}names`);
    this.fence = Buffer.from(`${this.prefix}fence`);
    this.markers = { first: Buffer.from(`${this.prefix}txn/`), end: Buffer.from(`${this.prefix}txn0`) };
  }

  object(table: Table, id: string): Buffer {
    return Buffer.from(`${this.prefix}${table}/${id}`);
  }

  marker(writer: string): Buffer {
    return Buffer.from(`${this.prefix}txn/${writer}`);
  }

  meaning(key: Buffer): KeyMeaning {
    const path = key.toString("utf8", this.first.length);
    if (path === "names") return { kind: "names" };
    const slash = path.indexOf("/");
    const room = path.slice(0, slash);
    const id = path.slice(slash + 1);
    if (slash <= 0 || id === "") return { kind: "other" };
    if (room === "txn") return { kind: "marker", writer: id };
    return tableNames.has(room) ? { kind: "object", table: room as Table, id } : { kind: "other" };
  }
}
