import type { RaftConfig } from "./config.js";
import type { ProgressState } from "./progress.js";
import type { ConfChange, ConfState, Message, NodeId, Outcome, Proposal, Ready, Role } from "./types.js";

export interface ProgressStatus {
  match: number;
  next: number;
  state: ProgressState;
  recentActive: boolean;
  isLearner: boolean;
  paused: boolean;
  inflight: number;
  pendingSnapshot: number;
}

export interface Status {
  id: NodeId;
  term: number;
  vote: NodeId;
  commit: number;
  applied: number;
  lead: NodeId;
  role: Role;
  lastIndex: number;
  leadTransferee: NodeId;
  confState: ConfState;
  /** By id, ascending; empty where this node does not lead. */
  progress: Map<NodeId, ProgressStatus>;
}

export class RawNode {
  readonly id: NodeId;
  constructor(config: RaftConfig) {
    this.id = config.id;
  }
  tick(): void {
    throw new Error("in the making");
  }
  step(_m: Message): Outcome {
    throw new Error("in the making");
  }
  campaign(): Outcome {
    throw new Error("in the making");
  }
  propose(_data: Uint8Array): Outcome {
    throw new Error("in the making");
  }
  proposeMany(_proposals: readonly Proposal[]): Outcome {
    throw new Error("in the making");
  }
  proposeConfChange(_change: ConfChange): Outcome {
    throw new Error("in the making");
  }
  applyConfChange(_change: ConfChange): ConfState {
    throw new Error("in the making");
  }
  rejectConfChange(): void {
    throw new Error("in the making");
  }
  readIndex(_context: number): Outcome {
    throw new Error("in the making");
  }
  transferLeader(_to: NodeId): Outcome {
    throw new Error("in the making");
  }
  forgetLeader(): Outcome {
    throw new Error("in the making");
  }
  reportUnreachable(_id: NodeId): void {
    throw new Error("in the making");
  }
  reportSnapshot(_id: NodeId, _ok: boolean): void {
    throw new Error("in the making");
  }
  hasReady(): boolean {
    throw new Error("in the making");
  }
  ready(): Ready {
    throw new Error("in the making");
  }
  advance(): void {
    throw new Error("in the making");
  }
  appliedTo(_index: number): void {
    throw new Error("in the making");
  }
  status(): Status {
    throw new Error("in the making");
  }
  get confState(): ConfState {
    throw new Error("in the making");
  }
}
