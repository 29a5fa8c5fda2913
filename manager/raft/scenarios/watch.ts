// What must hold in every scenario at every step, whatever its transcript says: the properties of the Raft paper's
// Figure 3, and the rules of order. A scenario that breaks one fails, and its expectations cannot be rewritten.

import type { ConfState, Entry, HardState, Message, NodeId, ReadState, Ready, Status } from "../core/mod.js";
import { ScenarioError } from "./format.js";
import type { Member } from "./member.js";
import { entryText, messageText } from "./text.js";

interface Before {
  term: number;
  commit: number;
  leads: boolean;
}

export class Watch {
  readonly #members: ReadonlyMap<NodeId, Member>;
  /** Who led a term: one node at most (election safety). */
  readonly #leaders = new Map<number, NodeId>();
  /** What some node has applied at an index: no other node applies anything else there (state machine safety). */
  readonly #applied = new Map<number, Entry>();
  readonly #before = new Map<NodeId, Before>();
  readonly #synced = new Map<NodeId, HardState>();
  /** What was committed anywhere when a read was first asked: no answer to it may be older. */
  readonly #asked = new Map<string, number>();
  #committed = 0;

  constructor(members: ReadonlyMap<NodeId, Member>) {
    this.#members = members;
  }

  get applied(): ReadonlyMap<number, Entry> {
    return this.#applied;
  }

  /** After every command, and every step within one. */
  check(): void {
    const all = [...this.#members.values()];
    for (const member of all) {
      if (member.raw === undefined) continue;
      const status = member.raw.status();
      const before = this.#before.get(member.id);
      if (before !== undefined && status.term < before.term) fail(`node ${member.id} went back to term ${status.term}`);
      if (before !== undefined && status.commit < before.commit) {
        fail(`node ${member.id} took back its commit from ${before.commit} to ${status.commit}`);
      }
      if (status.commit > status.lastIndex) fail(`node ${member.id} committed ${status.commit}, beyond its log`);
      if (status.role === "leader") {
        this.#leading(member, status);
        if (before === undefined || status.commit > before.commit) committing(status, all);
      }
      this.#committed = Math.max(this.#committed, status.commit);
      this.#before.set(member.id, { term: status.term, commit: status.commit, leads: status.role === "leader" });
    }
  }

  stopped(id: NodeId): void {
    // What was not durable is gone, the commit too; the term must not be, where it was told to others.
    const synced = this.#synced.get(id);
    if (synced === undefined) this.#before.delete(id);
    else this.#before.set(id, { term: synced.term, commit: synced.commit, leads: false });
  }

  /** Its disk is gone, and with it all that it promised; what it brought about with others is not. */
  wiped(id: NodeId): void {
    this.#before.delete(id);
    this.#synced.delete(id);
  }

  ready(member: Member, ready: Ready): void {
    const { hardState } = member.storage.initialState();
    const voted =
      ready.hardState !== undefined &&
      (ready.hardState.term !== hardState.term || ready.hardState.vote !== hardState.vote);
    if ((voted || ready.entries.length > 0 || ready.snapshot !== undefined) && !ready.mustSync) {
      fail(`a Ready of node ${member.id} has something to make durable, and asks for no sync`);
    }
  }

  persisted(member: Member, synced: HardState): void {
    const before = this.#synced.get(member.id);
    if (before !== undefined && synced.term < before.term) fail(`the term on the disk of ${member.id} went back`);
    this.#synced.set(member.id, synced);
  }

  /** Rule 1: nothing is confirmed that a crash could take back. */
  sent(member: Member, m: Message): void {
    const { hardState } = member.storage.initialState();
    const leads = m.type === "MsgApp" || m.type === "MsgHeartbeat";
    if (m.from !== member.id) fail(`node ${member.id} sent "${messageText(m)}" in the name of another`);
    if (m.type === "MsgAppResp" && !m.reject && m.index > member.storage.lastIndex()) {
      fail(`"${messageText(m)}" confirms more than is on disk (${member.storage.lastIndex()})`);
    }
    if (m.type === "MsgAppResp" && !m.reject) this.#confirms(member, m);
    const voted = hardState.term === m.term && hardState.vote === m.to;
    // With a newer term on disk no other vote can be given in that of the message.
    if (m.type === "MsgVoteResp" && !m.reject && !voted && hardState.term <= m.term) {
      fail(`"${messageText(m)}" grants a vote that is not on disk`);
    }
    if (m.type === "MsgVote" && hardState.term < m.term) fail(`"${messageText(m)}" asks in a term that is not on disk`);
    if (leads && hardState.term < m.term) fail(`"${messageText(m)}" leads in a term that is not on disk`);
  }

  /** Up to the index that a follower confirms, its disk is the leader's log. */
  #confirms(member: Member, m: Message & { type: "MsgAppResp" }): void {
    const leader = this.#members.get(m.to);
    if (leader?.raw === undefined) return;
    const { role, term } = leader.raw.status();
    if (role !== "leader" || term !== m.term) return;
    const own = member.storage.term(m.index);
    const its = leader.storage.term(m.index);
    if (typeof its === "number" && typeof own === "number" && own !== its) {
      fail(`"${messageText(m)}" confirms an entry of term ${own} where its leader has term ${its}`);
    }
  }

  entryApplied(member: Member, entry: Entry): void {
    if (entry.index !== member.applied + 1) fail(`node ${member.id} applied ${entry.index} after ${member.applied}`);
    const known = this.#applied.get(entry.index);
    if (known === undefined) this.#applied.set(entry.index, entry);
    else if (entryText(known) !== entryText(entry)) {
      fail(`node ${member.id} applied ${entryText(entry)} where ${entryText(known)} had been applied`);
    }
  }

  asked(id: NodeId, context: number): void {
    const key = `${id}/${context}`;
    if (!this.#asked.has(key)) this.#asked.set(key, this.#committed);
  }

  /** An answer may come twice, as messages may, and after a restart of who asked. */
  read(id: NodeId, read: ReadState): void {
    const least = this.#asked.get(`${id}/${read.context}`);
    if (least === undefined) fail(`node ${id} got an answer to read ${read.context}, which it did not ask`);
    if (read.index < least) fail(`node ${id} reads at ${read.index}; ${least} was committed when it asked`);
  }

  #leading(member: Member, status: Status): void {
    const leader = this.#leaders.get(status.term);
    if (leader !== undefined && leader !== status.id) fail(`${leader} and ${status.id} both lead term ${status.term}`);
    this.#leaders.set(status.term, status.id);
    if (this.#before.get(member.id)?.leads === true) return;
    // Leader completeness: its log has everything that any node has applied.
    for (const [index, entry] of this.#applied) {
      const term = member.storage.term(index);
      // What it received and has yet to make durable is in its log, too.
      if (term === "compacted" || ((term === entry.term || term === "unavailable") && index <= status.lastIndex))
        continue;
      if (entry.term >= status.term) continue;
      fail(`node ${status.id} leads term ${status.term} without the applied entry ${entryText(entry)}`);
    }
  }
}

/** What a leader says to be committed is on the disks of its quorum. */
function committing(status: Status, members: readonly Member[]): void {
  const leader = members.find((member) => member.id === status.id);
  const term = leader?.storage.term(status.commit);
  if (leader === undefined || term === "compacted") return;
  // A leader may know of commits only through the disks of others, while its own write is under way.
  const has = (id: NodeId): boolean => {
    const member = members.find((other) => other.id === id);
    const there = member?.storage.term(status.commit);
    return (
      there === "compacted" ||
      (there !== "unavailable" && there !== undefined && (term === "unavailable" || there === term))
    );
  };
  for (const voters of quorums(status.confState)) {
    const holding = voters.filter(has).length;
    if (holding * 2 <= voters.length) {
      fail(`leader ${status.id} committed ${status.commit}, which ${holding} of ${voters.length} voters have on disk`);
    }
  }
}

function quorums(conf: ConfState): (readonly NodeId[])[] {
  return [conf.voters, conf.votersOutgoing].filter((voters) => voters.length > 0);
}

function fail(what: string): never {
  throw new ScenarioError(what);
}
