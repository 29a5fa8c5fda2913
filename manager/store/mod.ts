export { exportChunks, importChunks } from "./chunks.js";
export { type EtcdStoreOptions, openEtcdStore } from "./etcd/etcd.js";
export type { FenceOptions } from "./etcd/fence.js";
export type { HistoryLimits } from "./history.js";
export type { Leadership, Tenure } from "./leadership.js";
export { type MemoryStoreOptions, openMemoryStore } from "./memory/memory.js";
export type { StoreLog } from "./raft/log.js";
export { type RaftStore, type RaftStoreOptions, openRaftStore } from "./raft/raft.js";
export {
  type Change,
  type Commit,
  type Store,
  type TableView,
  type Transaction,
  type View,
  writesPerTransactionMax,
} from "./store.js";
export { Layer } from "./transaction.js";
