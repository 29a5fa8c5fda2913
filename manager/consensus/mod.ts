// The managers in consensus: docs/consensus.md. May import lib, proto, raft-ts and manager/rpc. The rest of the manager
// depends on the contract in consensus.ts, and manager/main.ts alone on what is behind it.

export { writeBackup, checkBackup, type BackupSummary } from "./backup.js";
export type { Consensus, Member, StoreMachine, Tenure } from "./consensus.js";
export {
  type InitOptions,
  initCluster,
  type JoinOptions,
  joinCluster,
  type RecoverOptions,
  type Recovered,
  recoverCluster,
  requireMember,
  type RestoreOptions,
  restoreCluster,
} from "./data-dir.js";
export { explained, isDiskFailure } from "./disk.js";
export { notLeader } from "./errors.js";
export { type Identity, markRemoved, readIdentity } from "./identity.js";
export { lockDataDir } from "./lock.js";
export { type ConsensusOptions, RaftConsensus } from "./raft-consensus.js";
export { SoloConsensus, type SoloOptions } from "./solo.js";
export { raftService } from "./transport/mod.js";
