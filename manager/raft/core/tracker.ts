// The configuration in force, how far each of its members is, and the votes of an election under way.

import { ascending, checkedConfState } from "./changer.js";
import { Inflights } from "./inflights.js";
import { Progress } from "./progress.js";
import { jointIndex, jointVote, type VoteResult } from "./quorum.js";
import type { ConfState, NodeId } from "./types.js";

export class Tracker {
  /** Checked: ascending, without doubles. */
  conf: ConfState;
  /** Voters of either half, ascending. */
  voters: readonly NodeId[] = [];
  /** Of every member, ascending by id: iteration is the same on every machine. */
  progress = new Map<NodeId, Progress>();
  readonly #inflightCountMax: number;
  readonly #inflightBytesMax: number;
  /** Of this election, by who voted: a second answer of the same voter counts nothing. */
  readonly #votes = new Map<NodeId, boolean>();
  readonly #matchOf = (id: NodeId): number => this.progress.get(id)?.match ?? 0;
  readonly #voteOf = (id: NodeId): boolean | undefined => this.#votes.get(id);

  constructor(conf: ConfState, lastIndex: number, inflightCountMax: number, inflightBytesMax: number) {
    this.#inflightCountMax = inflightCountMax;
    this.#inflightBytesMax = inflightBytesMax;
    this.conf = conf;
    this.switchTo(conf, lastIndex);
  }

  get joint(): boolean {
    return this.conf.votersOutgoing.length > 0;
  }

  /** Who is new is probed from the end of the log, and counts as active until it had its chance to answer. */
  switchTo(conf: ConfState, lastIndex: number): void {
    this.conf = checkedConfState(conf);
    this.voters = ascending([...conf.voters, ...conf.votersOutgoing]);
    const learners = new Set(conf.learners);
    const before = this.progress;
    this.progress = new Map();
    for (const id of ascending([...this.voters, ...learners])) {
      let progress = before.get(id);
      if (progress === undefined) {
        progress = this.#progressAt(0, Math.max(lastIndex, 1), false);
        progress.recentActive = true;
      }
      progress.isLearner = learners.has(id);
      this.progress.set(id, progress);
    }
  }

  /** Nothing is known of anybody any more, as at the begin of a term. */
  reset(lastIndex: number): void {
    this.#votes.clear();
    for (const [id, { isLearner }] of this.progress) {
      this.progress.set(id, this.#progressAt(0, lastIndex + 1, isLearner));
    }
  }

  #progressAt(match: number, next: number, isLearner: boolean): Progress {
    return new Progress(match, next, isLearner, new Inflights(this.#inflightCountMax, this.#inflightBytesMax));
  }

  /** The largest index that a quorum has durably. */
  committed(): number {
    return jointIndex(this.conf.voters, this.conf.votersOutgoing, this.#matchOf);
  }

  /** The largest number that a quorum has reached, of numbers other than `match`. */
  quorumOf(numberOf: (id: NodeId) => number): number {
    return jointIndex(this.conf.voters, this.conf.votersOutgoing, numberOf);
  }

  quorumActive(self: NodeId): boolean {
    const active = (id: NodeId): boolean => id === self || this.progress.get(id)?.recentActive === true;
    return jointVote(this.conf.voters, this.conf.votersOutgoing, active) === "won";
  }

  forgetVotes(): void {
    this.#votes.clear();
  }

  /** The first answer of a voter counts. */
  vote(id: NodeId, granted: boolean): VoteResult {
    if (!this.#votes.has(id)) this.#votes.set(id, granted);
    return jointVote(this.conf.voters, this.conf.votersOutgoing, this.#voteOf);
  }
}
