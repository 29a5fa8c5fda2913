// The order in which a node's work is done (rule 1 of the design). Signatures; the body follows.

import type { ConfChange, Message, NodeId, Outcome, Proposal, RawNode } from "../core/mod.js";
import type { Host } from "./host.js";

export declare class Driver {
  constructor(raw: RawNode, host: Host);
  readonly raw: RawNode;
  receive(m: Message): Outcome;
  tick(): void;
  campaign(): Outcome;
  propose(data: Uint8Array): Outcome;
  proposeMany(proposals: readonly Proposal[]): Outcome;
  proposeConfChange(cc: ConfChange): Outcome;
  readIndex(context: number): Outcome;
  transferLeader(to: NodeId): Outcome;
  forgetLeader(): Outcome;
  reportUnreachable(id: NodeId): void;
  reportSnapshot(id: NodeId, ok: boolean): void;
  persisted(): void;
  applied(index: number): void;
  flush(): void;
}
