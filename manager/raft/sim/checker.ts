// What must hold at every step of every execution, checked as it happens. The checker sees what a node gives to its
// disk, its network and its state machine, and its status after each event; it keeps what each node ever had on disk,
// beyond any crash. Names of the rules: Figure 3 of the Raft paper; the rest are raft.md's.

import type { Coverage } from "./coverage.js";
import type { Batch } from "../driver/host.js";
import type { ConfState, Entry, HardState, Message, NodeId, Role, SnapshotMeta, Status } from "../core/mod.js";

/** A rule was broken. */
export class Broken extends Error {
  override name = "Broken";
}

function fail(rule: string, details: string): never {
  throw new Broken(`${rule}: ${details}`);
}

/** What is on a disk, or would be once everything given to it is. */
interface Log {
  /** By index; holes below `first`. At first - 1 the term is `baseTerm`. */
  entries: (Entry | undefined)[];
  first: number;
  baseTerm: number;
  last: number;
}

function termAt(log: Log, index: number): number | undefined {
  if (index === log.first - 1) return log.baseTerm;
  return index >= log.first && index <= log.last ? log.entries[index]?.term : undefined;
}

function append(log: Log, batch: Batch): void {
  const { snapshot, entries } = batch;
  if (snapshot !== undefined) {
    log.first = snapshot.index + 1;
    log.baseTerm = snapshot.term;
    log.last = snapshot.index;
  }
  for (const entry of entries) {
    log.entries[entry.index] = entry;
    log.last = entry.index;
  }
}

/** A node over all its lives. */
interface View {
  id: NodeId;
  /** With everything that was given to the disk. */
  log: Log;
  /** With everything that the disk has confirmed. */
  durable: Log;
  hardState: HardState;
  /** The commit that the last sync made safe. */
  commitSynced: number;
  writing: Batch | undefined;
  term: number;
  vote: NodeId;
  commit: number;
  /** Up to here `commit` has been compared with what others committed. */
  commitSeen: number;
  applied: number;
  /** What the state machine has, this life. */
  machine: number;
  role: Role;
  roleTerm: number;
  /** What came into force here, and what was in force before it; not what the node says it goes by. */
  conf: ConfState;
  confBefore: ConfState;
  /** The last promise to a leader: "I have everything up to index", in that term. */
  acked: { term: number; index: number };
  crashed: boolean;
}

/** What a node found on its disk. */
export interface Recovered {
  hardState: HardState;
  confState: ConfState;
  first: number;
  baseTerm: number;
  entries: readonly Entry[];
  /** The state machine's index. */
  applied: number;
}

const key = (index: number, term: number): number => index * 1_000_000 + term;

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i += 1) if (a[i] !== b[i]) return false;
  return true;
}

export const confText = (conf: ConfState): string =>
  `${conf.voters.join()}&${conf.votersOutgoing.join()}&${conf.learners.join()}&${conf.learnersNext.join()}${conf.autoLeave ? "!" : ""}`;

export class Checker {
  readonly #coverage: Coverage;
  readonly #views = new Map<NodeId, View>();
  readonly #leaders = new Map<number, NodeId>();
  readonly #votes = new Map<number, NodeId>();
  /** What each candidate said of its log. */
  readonly #candidates = new Map<number, { lastIndex: number; lastTerm: number }>();
  /** Log matching: an index and a term name one entry and what is before it. */
  readonly #entries = new Map<number, { entry: Entry; prevTerm: number }>();
  /** By index; with the term in which it was first seen committed. */
  readonly #committed: ({ entry: Entry; inTerm: number } | undefined)[] = [];
  readonly #configurations = new Map<number, string>();
  /** What the state machine holds at an index. */
  readonly #states = new Map<number, number>();

  constructor(coverage: Coverage) {
    this.#coverage = coverage;
  }

  /** The largest index that any node knows to be committed. */
  get commitMax(): number {
    return Math.max(0, this.#committed.length - 1);
  }

  committedAt(index: number): Entry | undefined {
    return this.#committed[index]?.entry;
  }

  /** What `id` must still have after any crash; undefined for a node that never ran. */
  durableOf(id: NodeId): { hardState: HardState; last: number } | undefined {
    const view = this.#views.get(id);
    return view === undefined ? undefined : { hardState: view.hardState, last: view.durable.last };
  }

  /** A node begins a life. `bootstrap` is the first of a node with an empty disk. */
  started(id: NodeId, found: Recovered): void {
    const log: Log = { entries: [], first: found.first, baseTerm: found.baseTerm, last: found.first - 1 };
    for (const entry of found.entries) {
      if (entry.index !== log.last + 1) fail("recovery", `node ${id}: entry ${entry.index} after ${log.last}`);
      log.entries[entry.index] = entry;
      log.last = entry.index;
    }
    const { hardState } = found;
    const known = this.#views.get(id);
    if (known !== undefined) this.#checkRecovery(known, log, hardState);
    if (found.applied < found.first - 1 || found.applied > log.last)
      fail("recovery", `node ${id} starts with ${found.applied} applied and a log up to ${log.last}`);
    const view: View = {
      id,
      log,
      durable: { ...log, entries: [...log.entries] },
      hardState,
      commitSynced: hardState.commit,
      writing: undefined,
      term: hardState.term,
      vote: hardState.vote,
      commit: hardState.commit,
      commitSeen: Math.min(hardState.commit, log.first - 1),
      applied: found.applied,
      machine: found.applied,
      role: "follower",
      roleTerm: hardState.term,
      conf: found.confState,
      confBefore: found.confState,
      acked: known?.acked ?? { term: 0, index: 0 },
      crashed: false,
    };
    this.#views.set(id, view);
    this.#matchLogs(id, log, found.entries);
    if (hardState.vote !== 0) this.#voted(id, hardState.term, hardState.vote);
    this.#seeCommit(view);
  }

  /** Everything that was synced is there; of what was not, a beginning. */
  #checkRecovery(known: View, log: Log, hardState: HardState): void {
    const { id, durable, writing } = known;
    const before = known.hardState;
    const promised = writing?.hardState;
    if (hardState.term < before.term)
      fail("durable term", `node ${id} is back at term ${hardState.term} after ${before.term}`);
    const vote = hardState.vote;
    const votes = hardState.term === before.term ? [before.vote] : [];
    if (promised?.term === hardState.term) votes.push(promised.vote);
    if (!votes.includes(vote))
      fail(
        "durable vote",
        `node ${id} is back in term ${hardState.term} with vote ${vote}, and voted for ${votes.join(" or ")}`,
      );
    if (hardState.commit < known.commitSynced)
      fail("durable commit", `node ${id} is back with commit ${hardState.commit} after ${known.commitSynced}`);
    const candidates = [{ log: durable, lastMin: durable.last }];
    if (writing !== undefined) {
      const within: Log = { ...durable, entries: [...durable.entries] };
      append(within, writing);
      const first = writing.entries[0]?.index;
      candidates.push({ log: within, lastMin: writing.snapshot?.index ?? first ?? durable.last });
    }
    for (const candidate of candidates) if (isPrefix(log, candidate.log, candidate.lastMin)) return;
    fail(
      "durable log",
      `node ${id} had ${logText(durable)} on disk${writing === undefined ? "" : ` and was writing ${logText(candidates[1]?.log ?? durable)}`}, and is back with ${logText(log)}`,
    );
  }

  /** The node stands no more. What it had given to the disk and not heard of may be there or not. */
  crashed(id: NodeId): void {
    const view = this.#view(id);
    view.crashed = true;
  }

  #view(id: NodeId): View {
    const view = this.#views.get(id);
    if (view === undefined) throw new Error(`the checker does not know node ${id}`);
    return view;
  }

  #matchLogs(id: NodeId, log: Log, entries: readonly Entry[]): void {
    for (const entry of entries) {
      const prevTerm = termAt(log, entry.index - 1);
      const known = this.#entries.get(key(entry.index, entry.term));
      if (known === undefined) {
        if (prevTerm !== undefined) this.#entries.set(key(entry.index, entry.term), { entry, prevTerm });
        continue;
      }
      if (known.entry.type !== entry.type || !sameBytes(known.entry.data, entry.data))
        fail("log matching", `entry ${entry.index} of term ${entry.term} differs on node ${id}`);
      if (prevTerm !== undefined && prevTerm !== known.prevTerm)
        fail(
          "log matching",
          `before entry ${entry.index} of term ${entry.term} node ${id} has term ${prevTerm}, others ${known.prevTerm}`,
        );
    }
  }

  /** A batch goes to the disk. `status` is the node's as it is now. */
  persisting(id: NodeId, batch: Batch, status: () => Status): void {
    const view = this.#view(id);
    if (view.writing !== undefined) fail("driver", `node ${id} writes two batches at once`);
    const { entries, snapshot, hardState } = batch;
    const term = hardState?.term ?? view.hardState.term;
    if (hardState !== undefined) {
      const old = view.hardState;
      if (hardState.term < old.term || hardState.commit < old.commit)
        fail(
          "monotone",
          `node ${id} writes term ${hardState.term}, commit ${hardState.commit} after ${old.term}, ${old.commit}`,
        );
      if (hardState.term === old.term && old.vote !== 0 && hardState.vote !== old.vote)
        fail("one vote", `node ${id} writes vote ${hardState.vote} after ${old.vote} in term ${hardState.term}`);
      if (!batch.mustSync && (hardState.term !== old.term || hardState.vote !== old.vote))
        fail("durable vote", `node ${id} writes a new term or vote without a sync`);
    }
    if (!batch.mustSync && (entries.length > 0 || snapshot !== undefined))
      fail("durable log", `node ${id} writes entries or a snapshot without a sync`);
    if (snapshot !== undefined) {
      const known = this.#committed[snapshot.index];
      if (known === undefined || known.entry.term !== snapshot.term)
        fail(
          "state machine safety",
          `node ${id} installs a snapshot of ${snapshot.index} in term ${snapshot.term}, which is not what was committed`,
        );
      this.#sameConfiguration(id, snapshot.index, snapshot.confState, false);
      this.#inForce(view, snapshot.confState);
    }
    const first = entries[0];
    if (first !== undefined) {
      const lastBefore = snapshot?.index ?? view.log.last;
      if (first.index > lastBefore + 1) fail("log", `node ${id} writes entry ${first.index} after ${lastBefore}`);
      if (first.index <= lastBefore) {
        this.#coverage.truncations += 1;
        if (first.index <= view.commit && this.#committed[first.index]?.entry.term !== first.term)
          fail("committed entries stay", `node ${id} replaces entry ${first.index}, and ${view.commit} is committed`);
        const own = view.log.entries[first.index];
        if (view.role === "leader" && view.roleTerm === term && own?.term === term)
          fail("leader append-only", `leader ${id} of term ${term} replaces its own entry ${first.index}`);
      }
    }
    append(view.log, batch);
    if (term === view.acked.term && view.log.last < view.acked.index)
      fail(
        "acknowledged entries stay",
        `node ${id} acknowledged ${view.acked.index} in term ${term} and cuts its log to ${view.log.last}`,
      );
    this.#matchLogs(id, view.log, entries);
    for (const entry of entries) {
      if (entry.term > term)
        fail("log", `node ${id} in term ${term} writes entry ${entry.index} of term ${entry.term}`);
      if (entry.type !== "conf-change" || entry.term !== term || view.role !== "leader" || view.roleTerm !== term)
        continue;
      const { applied } = status();
      if (termAt(view.log, view.commit) !== term)
        fail(
          "no change before a commit in the term",
          `leader ${id} of term ${term} adds membership change ${entry.index}, and ${view.commit} is committed`,
        );
      for (let i = Math.max(applied + 1, view.log.first); i < entry.index; i += 1)
        if (view.log.entries[i]?.type === "conf-change")
          fail(
            "one change",
            `leader ${id} adds membership change ${entry.index} while ${i} is not applied (applied: ${applied})`,
          );
    }
    view.writing = batch;
    this.#seeCommit(view);
  }

  /** The batch is on disk; before the node hears of it. */
  persisted(id: NodeId): void {
    const view = this.#view(id);
    const batch = view.writing;
    if (batch === undefined) throw new Error(`nothing is being written by node ${id}`);
    view.writing = undefined;
    append(view.durable, batch);
    if (batch.hardState !== undefined) view.hardState = batch.hardState;
    // The same sync takes what earlier batches wrote without one.
    if (batch.mustSync) view.commitSynced = view.hardState.commit;
    if (batch.snapshot !== undefined) view.commitSynced = Math.max(view.commitSynced, batch.snapshot.index);
  }

  sending(id: NodeId, messages: readonly Message[]): void {
    const view = this.#view(id);
    const { durable, hardState } = view;
    for (const m of messages) {
      if (m.from !== id) fail("messages", `node ${id} sends as ${m.from}`);
      if (m.to === id) fail("messages", `node ${id} sends to itself`);
      if (m.term === 0 || m.type === "MsgPreVote" || (m.type === "MsgPreVoteResp" && !m.reject)) continue;
      if (m.term > hardState.term)
        fail("durable term", `node ${id} says ${m.type} in term ${m.term}, and its disk has ${hardState.term}`);
      switch (m.type) {
        case "MsgVote":
          this.#candidates.set(key(id, m.term), { lastIndex: m.lastIndex, lastTerm: m.lastTerm });
          this.#checkVote(view, m.term, id);
          break;
        case "MsgVoteResp":
          if (!m.reject) {
            this.#checkVote(view, m.term, m.to);
            this.#checkLogUpToDate(view, m.term, m.to);
          }
          break;
        case "MsgAppResp":
          if (m.reject) break;
          if (m.term === hardState.term) {
            if (durable.last < m.index)
              fail(
                "no acknowledgement beyond the disk",
                `node ${id} acknowledges ${m.index} in term ${m.term}, and its disk has ${logText(durable)}`,
              );
            if (view.acked.term < m.term || view.acked.index < m.index) view.acked = { term: m.term, index: m.index };
          }
          break;
        case "MsgApp":
        case "MsgHeartbeat":
        case "MsgSnap":
        case "MsgTimeoutNow": {
          const leader = this.#leaders.get(m.term);
          if (leader !== undefined && leader !== id)
            fail("election safety", `node ${id} leads term ${m.term}, which ${leader} leads`);
          break;
        }
        // Promise nothing of the sender's disk but its term.
        case "MsgHeartbeatResp":
        case "MsgPreVoteResp":
        case "MsgProp":
        case "MsgReadIndex":
        case "MsgReadIndexResp":
        case "MsgTransferLeader":
          break;
      }
    }
  }

  #checkVote(view: View, term: number, candidate: NodeId): void {
    const { hardState, id } = view;
    if (hardState.term === term && hardState.vote !== candidate)
      fail(
        "durable vote",
        `node ${id} says it voted for ${candidate} in term ${term}, and its disk has ${hardState.vote}`,
      );
    this.#voted(id, term, candidate);
  }

  #voted(id: NodeId, term: number, candidate: NodeId): void {
    const before = this.#votes.get(key(id, term));
    if (before !== undefined && before !== candidate)
      fail("one vote", `node ${id} votes for ${candidate} in term ${term}, and voted for ${before}`);
    this.#votes.set(key(id, term), candidate);
  }

  /** A vote is for a candidate whose log is not behind the voter's (§5.4.1). */
  #checkLogUpToDate(view: View, term: number, candidate: NodeId): void {
    const asked = this.#candidates.get(key(candidate, term));
    if (asked === undefined) fail("votes", `node ${view.id} votes for ${candidate} in term ${term}, which never asked`);
    // What the candidate has sent since, as leader of the term, does not count.
    let last = view.durable.last;
    while (last >= view.durable.first && (termAt(view.durable, last) ?? 0) >= term) last -= 1;
    const lastTerm = termAt(view.durable, last) ?? 0;
    if (lastTerm > asked.lastTerm || (lastTerm === asked.lastTerm && last > asked.lastIndex))
      fail(
        "votes compare logs",
        `node ${view.id}, whose log ends at ${last} of term ${lastTerm}, votes in term ${term} for ${candidate}, whose log ended at ${asked.lastIndex} of term ${asked.lastTerm}`,
      );
  }

  /** After each event of a node. */
  observed(status: Status): void {
    const { id, term, vote, commit, applied, role } = status;
    const view = this.#view(id);
    if (term < view.term || commit < view.commit || applied < view.applied)
      fail(
        "monotone",
        `node ${id} goes from term ${view.term}, commit ${view.commit}, applied ${view.applied} to ${term}, ${commit}, ${applied}`,
      );
    if (term === view.term && view.vote !== 0 && vote !== view.vote)
      fail("one vote", `node ${id} changes its vote in term ${term} from ${view.vote} to ${vote}`);
    if (commit > status.lastIndex)
      fail("commit", `node ${id} commits ${commit} of a log that ends at ${status.lastIndex}`);
    if (applied > commit) fail("apply", `node ${id} has applied ${applied} and committed ${commit}`);
    const newRole = role !== view.role || term !== view.roleTerm;
    const commitRose = commit > view.commit;
    view.term = term;
    view.vote = vote;
    view.commit = commit;
    view.applied = applied;
    if (newRole) this.#newRole(view, status);
    if (commitRose) {
      // Of a follower, what it commits is known when it is written or applied: until then it may be replacing entries.
      if (role === "leader") {
        this.#checkQuorum(view, status);
        this.#seeCommit(view);
      }
    }
    if (role === "leader")
      for (const [peer, progress] of status.progress)
        if (progress.match >= progress.next)
          fail("match < next", `leader ${id} has match ${progress.match}, next ${progress.next} for ${peer}`);
  }

  #newRole(view: View, status: Status): void {
    const { id, term, role, applied, commit } = status;
    view.role = role;
    view.roleTerm = term;
    if (role === "candidate" || role === "pre-candidate") {
      for (let i = Math.max(applied + 1, view.log.first); i <= Math.min(commit, view.log.last); i += 1)
        if (view.log.entries[i]?.type === "conf-change")
          fail(
            "no campaign before changes are applied",
            `node ${id} campaigns with change ${i} committed and ${applied} applied`,
          );
    }
    if (role !== "leader") return;
    const other = this.#leaders.get(term);
    if (other !== undefined && other !== id) fail("election safety", `nodes ${other} and ${id} both lead term ${term}`);
    if (other === undefined) {
      this.#coverage.elections += 1;
      this.#checkElection(view, status);
    }
    this.#leaders.set(term, id);
    for (let i = this.#committed.length - 1; i >= view.log.first - 1; i -= 1) {
      const committed = this.#committed[i];
      if (committed === undefined || committed.inTerm >= term) continue;
      if (termAt(view.log, i) !== committed.entry.term)
        fail(
          "leader completeness",
          `node ${id} leads term ${term} without entry ${i} of term ${committed.entry.term}, committed by term ${committed.inTerm}; it has ${logText(view.log)}`,
        );
    }
  }

  /** A leader has the votes of a quorum, given when they were on the voters' disks. */
  #checkElection(view: View, { id, term }: Status): void {
    const { hardState } = view;
    const voted = (voter: NodeId): boolean =>
      voter === id ? hardState.term === term && hardState.vote === id : this.#votes.get(key(voter, term)) === id;
    if (holds(view.conf, voted) || holds(view.confBefore, voted)) return;
    const who = [...this.#views.keys()].filter(voted);
    fail(
      "election needs a quorum",
      `node ${id} leads term ${term} by the votes of ${who.join(", ") || "nobody"}; members: ${confText(view.conf)}`,
    );
  }

  /** A leader commits what a quorum has on disk, and only by entries of its own term (§5.4.2). */
  #checkQuorum(view: View, status: Status): void {
    const { id, term, commit } = status;
    const at = termAt(view.log, commit);
    if (at !== term)
      fail(
        "commit counts the own term only",
        `leader ${id} of term ${term} commits ${commit}, which is of term ${at ?? "?"}`,
      );
    const has = (voter: NodeId): boolean => {
      const durable = this.#views.get(voter)?.durable;
      if (durable === undefined) return false;
      return commit < durable.first - 1 || termAt(durable, commit) === term;
    };
    // A change may have come into force in the same event, after the commit; the core goes by it before it tells.
    if (holds(view.conf, has) || holds(view.confBefore, has)) return;
    const who = [...this.#views.keys()].filter(has);
    fail(
      "commit needs a quorum",
      `leader ${id} of term ${term} commits ${commit}, which only ${who.join(", ") || "nobody"} has on disk; members: ${confText(view.conf)}`,
    );
  }

  /** Compares what is newly committed with what others committed at the same indexes. */
  #seeCommit(view: View): void {
    const upTo = Math.min(view.commit, view.log.last);
    for (let i = Math.max(view.commitSeen + 1, view.log.first); i <= upTo; i += 1) {
      const entry = view.log.entries[i];
      if (entry === undefined) continue;
      const known = this.#committed[i];
      if (known === undefined) {
        this.#committed[i] = { entry, inTerm: view.term };
        this.#coverage.committed += 1;
      } else if (known.entry.term !== entry.term || !sameBytes(known.entry.data, entry.data))
        fail(
          "state machine safety",
          `node ${view.id} commits entry ${i} of term ${entry.term}; committed is that of term ${known.entry.term}`,
        );
      else if (view.term < known.inTerm) known.inTerm = view.term;
    }
    view.commitSeen = Math.max(view.commitSeen, upTo);
  }

  /** A normal entry goes to the state machine. */
  applying(id: NodeId, entry: Entry): void {
    const view = this.#view(id);
    this.#checkApplied(view, entry);
    this.#coverage.applied += 1;
  }

  /** The core goes by a new configuration, and may have committed by it already; before anything else is said of it. */
  goesBy(id: NodeId, confState: ConfState): void {
    this.#inForce(this.#view(id), confState);
  }

  /** `overtaken`: the core stands on a later snapshot already, whose configuration this may be. */
  configured(id: NodeId, entry: Entry, confState: ConfState, overtaken: boolean): void {
    const view = this.#view(id);
    this.#checkApplied(view, entry);
    // Or the node would start again under the configuration before, which may need the votes of who is gone for good.
    if (entry.index > view.commitSynced)
      fail(
        "changes in force are durable",
        `node ${id} goes by change ${entry.index}, and after a power cut it would know of commit ${view.commitSynced}`,
      );
    if (!overtaken) this.#sameConfiguration(id, entry.index, confState, true);
  }

  #inForce(view: View, conf: ConfState): void {
    view.confBefore = view.conf;
    view.conf = conf;
  }

  #sameConfiguration(id: NodeId, index: number, confState: ConfState, changed: boolean): void {
    const text = confText(confState);
    // A snapshot is of the last change at or before its index.
    let at = index;
    if (!changed) while (at > 0 && !this.#configurations.has(at)) at -= 1;
    const known = this.#configurations.get(at);
    if (known !== undefined && known !== text)
      fail("configurations", `at ${index} node ${id} has ${text}, others ${known}`);
    if (changed) this.#configurations.set(index, text);
  }

  #checkApplied(view: View, entry: Entry): void {
    const { id } = view;
    const { index, term } = entry;
    if (index <= view.machine) fail("applied once", `node ${id} applies ${index} again, after ${view.machine}`);
    for (let i = view.machine + 1; i < index; i += 1) {
      const between = this.#committed[i]?.entry;
      if (between === undefined || between.type !== "normal" || between.data.length > 0)
        fail("applied in order", `node ${id} applies ${index} after ${view.machine} and leaves ${i} out`);
    }
    const committed = this.#committed[index]?.entry;
    if (committed === undefined) fail("apply", `node ${id} applies ${index}, which nobody has committed`);
    if (committed.term !== term || !sameBytes(committed.data, entry.data))
      fail(
        "state machine safety",
        `node ${id} applies entry ${index} of term ${term}; committed is that of term ${committed.term}`,
      );
    // What a snapshot has overtaken on the disk was on it before.
    const { durable } = view;
    if (durable.last < index || (index >= durable.first && termAt(durable, index) !== term))
      fail("apply after the sync", `node ${id} applies ${index} of term ${term}, and its disk has ${logText(durable)}`);
    view.machine = index;
  }

  /** The state machine became what a snapshot holds. */
  restored(id: NodeId, snapshot: SnapshotMeta): void {
    const view = this.#view(id);
    if (snapshot.index <= view.machine)
      fail("applied once", `node ${id} goes back from ${view.machine} to snapshot ${snapshot.index}`);
    view.machine = snapshot.index;
  }

  /** The same index is the same state everywhere. */
  state(id: NodeId, index: number, digest: number): void {
    // Empty entries and membership changes leave the state as it is, so only equal indexes are compared.
    const known = this.#states.get(index);
    if (known === undefined) this.#states.set(index, digest);
    else if (known !== digest) fail("state machine safety", `at ${index} node ${id} has another state than others`);
  }

  /** A read that was asked for when `commitThen` was committed is answered with everything up to `index`. */
  read(id: NodeId, index: number, commitThen: number): void {
    if (index < commitThen)
      fail(
        "reads are current",
        `node ${id} serves a read at ${index}; ${commitThen} was committed before it was asked`,
      );
    const view = this.#view(id);
    const missing = this.#committed.slice(view.machine + 1, index + 1);
    if (missing.some((one) => one === undefined || (one.entry.type === "normal" && one.entry.data.length > 0)))
      fail("reads are current", `node ${id} serves a read at ${index} with ${view.machine} applied`);
  }
}

/** Whether more than half of the voters, in both halves of a joint configuration. */
function holds(conf: ConfState, has: (voter: NodeId) => boolean): boolean {
  return [conf.voters, conf.votersOutgoing].every(
    (voters) => voters.length === 0 || voters.filter(has).length > voters.length / 2,
  );
}

function logText(log: Log): string {
  const runs: string[] = [];
  for (let i = log.first; i <= log.last; ) {
    const term = termAt(log, i);
    let end = i;
    while (end < log.last && termAt(log, end + 1) === term) end += 1;
    runs.push(`${i}${end > i ? `-${end}` : ""}@${term ?? "?"}`);
    i = end + 1;
  }
  return `[${log.first - 1}@${log.baseTerm}] ${runs.join(" ") || "no entries"}`;
}

/** Whether `found` is what `written` is up to some index of at least `lastMin`, for as much as it still holds. */
function isPrefix(found: Log, written: Log, lastMin: number): boolean {
  if (found.last < lastMin || found.last > written.last) return false;
  for (let i = Math.max(found.first - 1, written.first - 1); i <= found.last; i += 1)
    if (termAt(found, i) !== termAt(written, i)) return false;
  for (let i = Math.max(found.first, written.first); i <= found.last; i += 1) {
    const a = found.entries[i];
    const b = written.entries[i];
    if (a === undefined || b === undefined || a.type !== b.type || !sameBytes(a.data, b.data)) return false;
  }
  return true;
}
