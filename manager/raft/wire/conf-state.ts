// Configurations and snapshots' places in the log, as they stand in messages and on disk.

import type { ConfState, NodeId, SnapshotMeta } from "../core/types.js";
import type { ByteReader, ByteWriter } from "./bytes.js";

export function writeConfState(to: ByteWriter, conf: ConfState): void {
  to.numbers(conf.voters).numbers(conf.votersOutgoing).numbers(conf.learners).numbers(conf.learnersNext);
  to.byte(conf.autoLeave ? 1 : 0);
}

export function readConfState(from: ByteReader): ConfState {
  const voters = readIds(from, "voters");
  const votersOutgoing = readIds(from, "outgoing voters");
  const learners = readIds(from, "learners");
  const learnersNext = readIds(from, "next learners");
  return { voters, votersOutgoing, learners, learnersNext, autoLeave: readFlag(from, "auto-leave") };
}

export function writeSnapshotMeta(to: ByteWriter, snapshot: SnapshotMeta): void {
  to.number(snapshot.index).number(snapshot.term);
  writeConfState(to, snapshot.confState);
}

export function readSnapshotMeta(from: ByteReader): SnapshotMeta {
  const index = from.number("snapshot's index", 1);
  const term = from.number("snapshot's term", 1);
  return { index, term, confState: readConfState(from) };
}

/** 0 or 1. */
export function readFlag(from: ByteReader, field: string): boolean {
  const value = from.byte(field);
  if (value > 1) {
    throw from.wrong(field, `is ${value}, neither 0 nor 1`);
  }
  return value === 1;
}

function readIds(from: ByteReader, field: string): NodeId[] {
  const count = from.count(`number of ${field}`, 1);
  const ids: NodeId[] = [];
  let least = 1;
  for (let n = 0; n < count; n++) {
    const id = from.number(field, least);
    ids.push(id);
    least = id + 1;
  }
  return ids;
}
