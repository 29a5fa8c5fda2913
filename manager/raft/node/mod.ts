// The door "raft-ts/node": a node on real disks. Messages are carried by whoever uses it.

export * from "../core/mod.js";
export type { Leadership } from "../driver/mod.js";
export { decodeMessage, encodeMessage, WireError } from "../wire/mod.js";
export * from "./api.js";
export { DiskError } from "./file-system.js";
export { DirectoryLockedError } from "./lock.js";
export { LogRefusedError } from "./node-storage.js";
export * from "./raft-node.js";
export { SnapshotError } from "./snapshots.js";
