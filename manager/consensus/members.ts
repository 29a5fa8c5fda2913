// Who the members are: replicated with the membership itself. The configuration says who takes part, and the contexts
// of its changes say who they are; in a snapshot, its header does.

import type { ConfState } from "raft-ts";
import { type Member, MemberChange, SnapshotHeader } from "../../proto/gen/flotilla/raft/v1/raft.js";

/** Everybody who takes part in either configuration, ascending. */
export function participants(confState: ConfState): number[] {
  const { voters, votersOutgoing, learners, learnersNext } = confState;
  return [...new Set([...voters, ...votersOutgoing, ...learners, ...learnersNext])].sort((a, b) => a - b);
}

export class Members {
  #byId: ReadonlyMap<number, Member>;
  /** One more than any id in the log up to here: ids are given in order and never twice. */
  #nextId: number;
  #confState: ConfState;

  /**
   * `initial` are those of manager.json: who was there at init or join. They say where to find them until the log does,
   * and nothing about who takes part: that is `confState`, with which the log began.
   */
  constructor(initial: readonly Member[], confState: ConfState) {
    this.#byId = new Map(initial.map((member) => [member.id, member]));
    this.#nextId = Math.max(0, ...participants(confState)) + 1;
    this.#confState = confState;
  }

  get confState(): ConfState {
    return this.#confState;
  }

  /** For the next new member. */
  get nextId(): number {
    return this.#nextId;
  }

  /** By id. */
  all(): readonly Member[] {
    return [...this.#byId.values()].sort((a, b) => a.id - b.id);
  }

  get(id: number): Member | undefined {
    return this.#byId.get(id);
  }

  isVoter(id: number): boolean {
    return this.#confState.voters.includes(id);
  }

  /** Whether it takes part in a configuration that is in force. */
  takesPart(id: number): boolean {
    return participants(this.#confState).includes(id);
  }

  /** Whether it took part and was taken out: for good, whatever of the log is still to come. */
  isGone(id: number): boolean {
    return id < this.#nextId && !this.takesPart(id);
  }

  configured(confState: ConfState, context: Uint8Array): void {
    const { members } = MemberChange.decode(context);
    const before = this.#confState;
    this.#confState = confState;
    this.#nextId = Math.max(this.#nextId, ...participants(confState).map((id) => id + 1));
    const byId = new Map(this.#byId);
    for (const member of members) byId.set(member.id, member);
    // Only who is gone: those of manager.json whom the log has not come to yet are still needed to be found.
    for (const id of participants(before)) if (this.isGone(id)) byId.delete(id);
    this.#byId = byId;
  }

  header(): Uint8Array {
    const members = this.all().filter(({ id }) => this.takesPart(id));
    return SnapshotHeader.encode({ members, nextId: this.#nextId }).finish();
  }

  restore(header: Uint8Array, confState: ConfState): void {
    const { members, nextId } = SnapshotHeader.decode(header);
    this.#byId = new Map(members.map((member) => [member.id, member]));
    this.#confState = confState;
    this.#nextId = nextId;
  }
}
