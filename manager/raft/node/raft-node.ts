// One node of a cluster in a Node.js process. Signatures; the body follows.

import type { ConfChange, Message, MessageOf, NodeId } from "../core/mod.js";
import type { Leadership } from "../driver/mod.js";
import type { NodeStatus, RaftNodeOptions } from "./api.js";

export declare class RaftNode implements AsyncDisposable {
  static open(options: RaftNodeOptions): Promise<RaftNode>;
  readonly id: NodeId;
  propose(data: Uint8Array): Promise<unknown>;
  readBarrier(signal?: AbortSignal): Promise<void>;
  changeMembers(change: ConfChange): Promise<void>;
  transferLeadership(to: NodeId, signal?: AbortSignal): Promise<void>;
  receive(messages: readonly Message[]): void;
  receiveSnapshot(message: MessageOf<"MsgSnap">, chunks: AsyncIterable<Uint8Array>): Promise<void>;
  reportUnreachable(id: NodeId): void;
  status(): NodeStatus;
  onLeadership(listener: (now: Leadership & { leading: boolean }) => void): () => void;
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}
