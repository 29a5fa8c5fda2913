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
  #nextId: number;
  #confState: ConfState;

  /** `initial` are those of manager.json: who was there at init or join. */
  constructor(initial: readonly Member[], confState: ConfState) {
    this.#byId = new Map(initial.map((member) => [member.id, member]));
    this.#nextId = Math.max(0, ...this.#byId.keys()) + 1;
    this.#confState = confState;
  }

  get confState(): ConfState {
    return this.#confState;
  }

  /** For the next new member: never one that was given before. */
  get nextId(): number {
    return this.#nextId;
  }

  /** By id. Nobody before the first change came into force here knows more than manager.json. */
  all(): readonly Member[] {
    return [...this.#byId.values()].sort((a, b) => a.id - b.id);
  }

  get(id: number): Member | undefined {
    return this.#byId.get(id);
  }

  isVoter(id: number): boolean {
    return this.#confState.voters.includes(id);
  }

  /** Once all configurations that count it are left. */
  isMember(id: number): boolean {
    return participants(this.#confState).includes(id);
  }

  configured(confState: ConfState, context: Uint8Array): void {
    const { members } = MemberChange.decode(context);
    const taking = participants(confState);
    const byId = new Map(this.#byId);
    for (const member of members) byId.set(member.id, member);
    for (const id of byId.keys()) if (!taking.includes(id)) byId.delete(id);
    this.#byId = byId;
    this.#confState = confState;
    this.#nextId = Math.max(this.#nextId, ...taking.map((id) => id + 1), ...members.map(({ id }) => id + 1));
  }

  header(): Uint8Array {
    return SnapshotHeader.encode({ members: [...this.all()], nextId: this.#nextId }).finish();
  }

  restore(header: Uint8Array, confState: ConfState): void {
    const { members, nextId } = SnapshotHeader.decode(header);
    this.#byId = new Map(members.map((member) => [member.id, member]));
    this.#confState = confState;
    this.#nextId = nextId;
  }
}
