// What goes over the network and to disk, as bytes. Pure.

export { ByteReader, ByteWriter, WireError } from "./bytes.js";
export { readConfState, readSnapshotMeta, writeConfState, writeSnapshotMeta } from "./conf-state.js";
export { decodeEntry, encodeEntry, entryBytesMin } from "./entry.js";
export { decodeMessage, encodeMessage } from "./message.js";
