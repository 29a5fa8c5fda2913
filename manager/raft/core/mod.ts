// The protocol without a clock, a network, a disk or chance of its own. Model: etcd-io/raft; rules: the Raft paper
// (Ongaro, Ousterhout 2014) and Ongaro's dissertation.

export * from "./config.js";
export {
  confChangeProblem,
  decodeConfChange,
  emptyConfState,
  encodeConfChange,
  parseConfChange,
} from "./conf-change.js";
export * from "./memory-storage.js";
export type { ProgressState } from "./progress.js";
export * from "./raw-node.js";
export * from "./storage.js";
export * from "./types.js";
