import { describe, expect, it } from "vitest";
import type { ConfState, Entry, Message, MessageOf, Role, Status } from "../core/mod.js";
import { Checker } from "./checker.js";
import { noCoverage } from "./coverage.js";

const conf: ConfState = { voters: [1, 2, 3], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const entry = (index: number, term: number, text = `${index}@${term}`): Entry => ({
  index,
  term,
  type: "normal",
  data: bytes(text),
});
const change = (index: number, term: number): Entry => ({ ...entry(index, term), type: "conf-change" });
const vote = (from: number, to: number, term: number): Message => ({
  type: "MsgVoteResp",
  from,
  to,
  term,
  reject: false,
});
const asks = (from: number, to: number, term: number, lastIndex = 0, lastTerm = 0): Message => ({
  type: "MsgVote",
  from,
  to,
  term,
  lastIndex,
  lastTerm,
  force: false,
});
const ack = (from: number, to: number, term: number, index: number): MessageOf<"MsgAppResp"> & Message => ({
  type: "MsgAppResp",
  from,
  to,
  term,
  index,
  reject: false,
  hintIndex: 0,
  hintTerm: 0,
});

/** Three nodes that do what the test says, seen by a checker. */
class Stage {
  readonly checker = new Checker(noCoverage());
  readonly #status = new Map<number, Status>();

  constructor() {
    for (const id of [1, 2, 3]) this.start(id);
  }

  start(
    id: number,
    found: { term?: number; vote?: number; commit?: number; entries?: Entry[]; applied?: number } = {},
  ): void {
    const { term = 0, vote = 0, commit = 0, entries = [], applied = 0 } = found;
    this.checker.started(id, {
      hardState: { term, vote, commit },
      confState: conf,
      first: 1,
      baseTerm: 0,
      entries,
      applied,
    });
    const lastIndex = entries.length;
    const status = { id, term, vote, commit, applied, lead: 0, role: "follower" as Role, lastIndex, leadTransferee: 0 };
    this.#status.set(id, { ...status, confState: conf, progress: new Map() });
  }

  status(id: number): Status {
    return this.#status.get(id)!;
  }

  is(id: number, now: Partial<Status>): void {
    const status = { ...this.status(id), ...now };
    this.#status.set(id, status);
    this.checker.observed(status);
  }

  write(id: number, what: { term?: number; vote?: number; commit?: number; entries?: Entry[] }): void {
    const { entries = [], ...hardState } = what;
    const { term, vote, commit } = { ...this.status(id), ...hardState };
    this.checker.persisting(id, { entries, hardState: { term, vote, commit }, mustSync: true }, () => this.status(id));
    const last = entries.at(-1)?.index;
    this.#status.set(id, { ...this.status(id), term, vote, ...(last === undefined ? {} : { lastIndex: last }) });
  }

  /** On disk at once. */
  keep(id: number, what: { term?: number; vote?: number; commit?: number; entries?: Entry[] }): void {
    this.write(id, what);
    this.checker.persisted(id);
  }

  say(...messages: Message[]): void {
    for (const m of messages) this.checker.sending(m.from, [m]);
  }

  /** As it should go. */
  elect(leader: number, voter: number, term: number): void {
    const last = this.status(leader).lastIndex;
    this.keep(leader, { term, vote: leader });
    this.say(asks(leader, voter, term, last, this.termOf(leader)));
    this.keep(voter, { term, vote: leader });
    this.say(vote(voter, leader, term));
    this.is(leader, { term, vote: leader, role: "leader", lead: leader });
  }

  /** Of the last entry; the tests keep the log of a node in one term. */
  termOf(id: number): number {
    return this.#lastTerms.get(id) ?? 0;
  }
  readonly #lastTerms = new Map<number, number>();

  /** The leader's entry, on two disks, acknowledged and committed. */
  commit(leader: number, other: number, at: Entry): void {
    for (const id of [leader, other]) {
      this.keep(id, { entries: [at] });
      this.#lastTerms.set(id, at.term);
    }
    this.say(ack(other, leader, at.term, at.index));
    this.is(leader, { commit: at.index });
  }
}

describe("a run as it should be", () => {
  it("elects, commits, applies, restarts", () => {
    const stage = new Stage();
    stage.elect(1, 2, 1);
    stage.commit(1, 2, entry(1, 1));
    stage.checker.applying(1, entry(1, 1));
    stage.is(1, { applied: 1 });
    stage.checker.read(1, 1, 1);
    stage.checker.crashed(2);
    stage.start(2, { term: 1, vote: 1, entries: [entry(1, 1)] });
    stage.elect(2, 3, 2);
    expect(stage.checker.commitMax).toBe(1);
  });

  it("takes a change in once a sync has its commit, were it written before that without one", () => {
    const stage = new Stage();
    stage.elect(1, 2, 1);
    stage.commit(1, 2, entry(1, 1));
    stage.commit(1, 2, change(2, 1));
    stage.checker.applying(1, entry(1, 1));
    const { term, vote } = stage.status(1);
    stage.checker.persisting(1, { entries: [], hardState: { term, vote, commit: 2 }, mustSync: false }, () =>
      stage.status(1),
    );
    stage.checker.persisted(1);
    stage.checker.persisting(1, { entries: [entry(3, 1)], mustSync: true }, () => stage.status(1));
    stage.checker.persisted(1);
    stage.checker.configured(1, change(2, 1), { ...conf, voters: [1, 2] }, false);
  });

  it("takes an unfinished write back after a crash, or not", () => {
    for (const entries of [[], [entry(1, 1)], [entry(1, 1), entry(2, 1)]]) {
      const stage = new Stage();
      stage.write(2, { term: 1, entries: [entry(1, 1), entry(2, 1)] });
      stage.checker.crashed(2);
      if (entries.length > 0) stage.start(2, { term: 1, entries });
      else stage.start(2);
      expect(stage.checker.durableOf(2)?.last).toBe(entries.length);
    }
  });
});

describe("what must never be, each told by its rule", () => {
  const cases: Record<string, { rule: string; run(stage: Stage): void }> = {
    "two leaders of one term": {
      rule: "election safety",
      run(stage) {
        stage.elect(1, 2, 1);
        stage.keep(3, { term: 1, vote: 3 });
        stage.is(3, { term: 1, vote: 3, role: "leader" });
      },
    },
    "a leader without a quorum's votes": {
      rule: "election needs a quorum",
      run(stage) {
        stage.keep(1, { term: 1, vote: 1 });
        stage.is(1, { term: 1, vote: 1, role: "leader" });
      },
    },
    "a second vote in a term": {
      rule: "one vote",
      run(stage) {
        stage.keep(2, { term: 1, vote: 1 });
        stage.write(2, { term: 1, vote: 3 });
      },
    },
    "a second vote after a restart that forgot the first": {
      rule: "durable vote",
      run(stage) {
        stage.keep(2, { term: 1, vote: 1 });
        stage.checker.crashed(2);
        stage.start(2, { term: 1, vote: 0 });
      },
    },
    "a vote that is not on disk": {
      rule: "durable term",
      run(stage) {
        stage.keep(1, { term: 1, vote: 1 });
        stage.say(asks(1, 2, 1));
        stage.write(2, { term: 1, vote: 1 });
        stage.say(vote(2, 1, 1));
      },
    },
    "a vote for who has less": {
      rule: "votes compare logs",
      run(stage) {
        stage.elect(1, 2, 1);
        stage.commit(1, 2, entry(1, 1));
        stage.keep(3, { term: 2, vote: 3 });
        stage.say(asks(3, 2, 2));
        stage.keep(2, { term: 2, vote: 3 });
        stage.say(vote(2, 3, 2));
      },
    },
    "a leader without a committed entry": {
      rule: "leader completeness",
      run(stage) {
        stage.elect(1, 2, 1);
        stage.commit(1, 2, entry(1, 1));
        // By votes that were given in disregard of the logs, unseen.
        stage.keep(3, { term: 2, vote: 3 });
        stage.say(asks(3, 1, 2, 9, 1));
        stage.keep(2, { term: 2, vote: 3 });
        stage.say(vote(2, 3, 2));
        stage.is(3, { term: 2, vote: 3, role: "leader" });
      },
    },
    "an acknowledgement before the disk has it": {
      rule: "no acknowledgement beyond the disk",
      run(stage) {
        stage.keep(2, { term: 1 });
        stage.write(2, { entries: [entry(1, 1)] });
        stage.say(ack(2, 1, 1, 1));
      },
    },
    "acknowledged entries that are cut in the same term": {
      rule: "acknowledged entries stay",
      run(stage) {
        stage.keep(2, { term: 1, entries: [entry(1, 1), entry(2, 1)] });
        stage.say(ack(2, 1, 1, 2));
        stage.write(2, { entries: [entry(1, 1)] });
      },
    },
    "a commit that one disk has": {
      rule: "commit needs a quorum",
      run(stage) {
        stage.elect(1, 2, 1);
        stage.keep(1, { entries: [entry(1, 1)] });
        stage.is(1, { commit: 1 });
      },
    },
    "a commit by an entry of an older term (figure 8)": {
      rule: "commit counts the own term only",
      run(stage) {
        stage.elect(1, 2, 1);
        stage.keep(1, { entries: [entry(1, 1)] });
        stage.keep(1, { term: 2, vote: 1 });
        stage.say(asks(1, 2, 2, 1, 1));
        stage.keep(2, { term: 2, vote: 1 });
        stage.say(vote(2, 1, 2));
        stage.is(1, { term: 2, vote: 1, role: "leader" });
        stage.keep(2, { entries: [entry(1, 1)] });
        stage.is(1, { commit: 1 });
      },
    },
    "two entries with one index and term": {
      rule: "log matching",
      run(stage) {
        stage.keep(1, { term: 1, entries: [entry(1, 1, "a")] });
        stage.keep(2, { term: 1, entries: [entry(1, 1, "b")] });
      },
    },
    "one entry after different ones": {
      rule: "log matching",
      run(stage) {
        stage.keep(1, { term: 3, entries: [entry(1, 1), entry(2, 3)] });
        stage.keep(2, { term: 3, entries: [entry(1, 2), entry(2, 3)] });
      },
    },
    "a committed entry that is replaced": {
      rule: "committed entries stay",
      run(stage) {
        stage.elect(1, 2, 1);
        stage.commit(1, 2, entry(1, 1));
        stage.is(2, { commit: 1 });
        stage.write(2, { term: 2, vote: 0, entries: [entry(1, 2)] });
      },
    },
    "different entries applied at one index (split brain)": {
      rule: "state machine safety",
      run(stage) {
        stage.elect(1, 2, 1);
        stage.commit(1, 2, entry(1, 1));
        stage.keep(3, { entries: [entry(1, 1)], term: 1 });
        stage.checker.applying(3, entry(1, 1, "other"));
      },
    },
    "an entry applied twice": {
      rule: "applied once",
      run(stage) {
        stage.elect(1, 2, 1);
        stage.commit(1, 2, entry(1, 1));
        stage.checker.applying(1, entry(1, 1));
        stage.checker.applying(1, entry(1, 1));
      },
    },
    "an entry left out": {
      rule: "applied in order",
      run(stage) {
        stage.elect(1, 2, 1);
        stage.commit(1, 2, entry(1, 1));
        stage.commit(1, 2, entry(2, 1));
        stage.checker.applying(1, entry(2, 1));
      },
    },
    "an entry applied that nobody committed": {
      rule: "apply",
      run(stage) {
        stage.keep(1, { term: 1, entries: [entry(1, 1)] });
        stage.checker.applying(1, entry(1, 1));
      },
    },
    "an entry applied before its sync": {
      rule: "apply after the sync",
      run(stage) {
        stage.elect(1, 2, 1);
        stage.commit(1, 2, entry(1, 1));
        stage.write(3, { term: 1, entries: [entry(1, 1)] });
        stage.checker.applying(3, entry(1, 1));
      },
    },
    "a synced entry lost by a crash": {
      rule: "durable log",
      run(stage) {
        stage.keep(2, { term: 1, entries: [entry(1, 1)] });
        stage.checker.crashed(2);
        stage.start(2, { term: 1 });
      },
    },
    "an entry that nobody wrote, after a crash": {
      rule: "durable log",
      run(stage) {
        stage.keep(2, { term: 1, entries: [entry(1, 1)] });
        stage.checker.crashed(2);
        stage.start(2, { term: 1, entries: [entry(1, 1), entry(2, 1)] });
      },
    },
    "a term that goes back": {
      rule: "durable term",
      run(stage) {
        stage.keep(2, { term: 4 });
        stage.checker.crashed(2);
        stage.start(2, { term: 3 });
      },
    },
    "a commit that goes back": {
      rule: "monotone",
      run(stage) {
        stage.is(1, { commit: 2, lastIndex: 2 });
        stage.is(1, { commit: 1 });
      },
    },
    "a second change while the first is not applied": {
      rule: "one change",
      run(stage) {
        stage.elect(1, 2, 1);
        stage.commit(1, 2, entry(1, 1));
        stage.keep(1, { entries: [change(2, 1)] });
        stage.write(1, { entries: [change(3, 1)] });
      },
    },
    "a change before anything of the term is committed": {
      rule: "no change before a commit in the term",
      run(stage) {
        stage.elect(1, 2, 1);
        stage.write(1, { entries: [change(1, 1)] });
      },
    },
    "a campaign with a committed change that is not applied": {
      rule: "no campaign before changes are applied",
      run(stage) {
        stage.elect(1, 2, 1);
        stage.commit(1, 2, entry(1, 1));
        stage.commit(1, 2, change(2, 1));
        stage.is(2, { commit: 2 });
        stage.is(2, { role: "pre-candidate" });
      },
    },
    "a change in force that a power cut would undo": {
      rule: "changes in force are durable",
      run(stage) {
        stage.elect(1, 2, 1);
        stage.commit(1, 2, entry(1, 1));
        stage.commit(1, 2, change(2, 1));
        stage.keep(1, { commit: 1 });
        stage.checker.applying(1, entry(1, 1));
        stage.checker.configured(1, change(2, 1), { ...conf, voters: [1, 2] }, false);
      },
    },
    "two configurations at one index": {
      rule: "configurations",
      run(stage) {
        stage.elect(1, 2, 1);
        stage.commit(1, 2, entry(1, 1));
        stage.commit(1, 2, change(2, 1));
        for (const id of [1, 2]) {
          stage.keep(id, { commit: 2 });
          stage.checker.applying(id, entry(1, 1));
        }
        stage.checker.configured(1, change(2, 1), { ...conf, voters: [1, 2] }, false);
        stage.checker.configured(2, change(2, 1), { ...conf, voters: [1, 3] }, false);
      },
    },
    "a stale read": {
      rule: "reads are current",
      run(stage) {
        stage.elect(1, 2, 1);
        stage.commit(1, 2, entry(1, 1));
        stage.checker.read(3, 0, 1);
      },
    },
    "a read before what it must see is applied": {
      rule: "reads are current",
      run(stage) {
        stage.elect(1, 2, 1);
        stage.commit(1, 2, entry(1, 1));
        stage.checker.read(1, 1, 1);
      },
    },
    "a match that is as large as next": {
      rule: "match < next",
      run(stage) {
        const progress = { match: 2, next: 2, state: "probe" as const, recentActive: true, isLearner: false };
        stage.elect(1, 2, 1);
        stage.is(1, { progress: new Map([[2, { ...progress, paused: false, inflight: 0, pendingSnapshot: 0 }]]) });
      },
    },
    "different states at one index": {
      rule: "state machine safety",
      run(stage) {
        stage.checker.state(1, 5, 1);
        stage.checker.state(2, 5, 2);
      },
    },
  };
  for (const [name, { rule, run }] of Object.entries(cases))
    it(name, () => {
      expect(() => run(new Stage())).toThrow(new RegExp(`^${rule.replaceAll(/[()]/g, ".")}: `));
    });
});
