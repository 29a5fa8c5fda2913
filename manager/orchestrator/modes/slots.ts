// What every mode answers: which slots there are, and what each may have.

import { TaskState } from "../../../proto/mod.js";

export interface Slot {
  slot: number;
  /** The one node that its tasks may be on; empty is any. */
  nodeId: string;
  /** Its node is cordoned: what is there stays as it is, and nothing new comes. */
  closed: boolean;
}

export interface DroppedSlot {
  slot: number;
  /** SHUTDOWN keeps its number and history, REMOVE forgets both. */
  desired: typeof TaskState.SHUTDOWN | typeof TaskState.REMOVE;
}

export interface SlotSet {
  /** Ascending. */
  keep: Slot[];
  drop: DroppedSlot[];
}
