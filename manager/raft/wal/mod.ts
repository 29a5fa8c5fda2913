// The door of the write-ahead log.

export { crc32c } from "./crc.js";
export type { DiskImage, DiskOp } from "./disk.js";
export { isBackup, isLogFile } from "./layout.js";
export type { Refused, SnapshotExists } from "./recovery.js";
export { type Recovery, type RecoveryOptions, Wal, type WalOptions } from "./wal.js";
