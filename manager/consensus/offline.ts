// Work on a manager's log while no manager runs on it. Both go through the protocol's own doors, as a leader of a
// later term would: what is on disk afterwards is what any follower could have.

import type { ConfChange, ConfState, Message, MessageOf } from "raft-ts";
import { encodeConfChange } from "raft-ts";
import { RaftNode, type Transport } from "raft-ts/node";
import { type Clock, ClusterError, type Logger, type Rng, withDeadline } from "../../lib/mod.js";
import { MemberChange, SnapshotHeader } from "../../proto/gen/flotilla/raft/v1/raft.js";
import { backupChunks, checkBackup } from "./backup.js";
import type { Member } from "./consensus.js";
import { explained } from "./disk.js";
import type { RecoverOptions, Recovered, RestoreOptions } from "./data-dir.js";
import { type Identity, raftDirectory, writeIdentity } from "./identity.js";
import { Members, participants } from "./members.js";

/** For one step of the work; a large log is read before, without a deadline. */
const stepMsMax = 60_000;
/** What cannot be a member: ids are given from 1. The pretended leader of both. */
const pretender = Number.MAX_SAFE_INTEGER;
/** Nothing is to be thrown out of the log before a manager with the store's machine has applied it. */
const never = Number.MAX_SAFE_INTEGER;

export const foundingConfState: ConfState = Object.freeze({
  voters: [1],
  votersOutgoing: [],
  learners: [],
  learnersNext: [],
  autoLeave: false,
});
const nobodyYet: ConfState = { ...foundingConfState, voters: [] };

/** A node alone with its log, whose answers are read here instead of being sent. */
class Bench implements AsyncDisposable {
  readonly members: Members;
  readonly #clock: Clock;
  #node: RaftNode | undefined;
  #waiting: ((message: Message) => void) | undefined;
  #fatal: ((error: unknown) => void) | undefined;

  private constructor(members: Members, clock: Clock) {
    this.members = members;
    this.#clock = clock;
  }

  static async open(
    options: { dataDir: string; clock: Clock; rng: Rng; log: Logger },
    id: number,
    members: Members,
    { bootstrap, begun }: { bootstrap?: ConfState; begun: boolean },
  ): Promise<Bench> {
    const { dataDir, clock, rng, log } = options;
    const bench = new Bench(members, clock);
    const transport: Transport = {
      send: (_to, messages) => {
        for (const message of messages) bench.#waiting?.(message);
      },
      sendSnapshot: () => Promise.reject(new ClusterError("failed_precondition", "no manager runs")),
    };
    const directory = raftDirectory(dataDir);
    bench.#node = await RaftNode.open({
      id,
      directory,
      begun,
      machine: {
        // The manager that runs here next applies all of it; here only the members matter.
        apply: () => undefined,
        configured: (_index, confState, context) => members.configured(confState, context),
        snapshot: () => {
          throw new ClusterError("internal", "a snapshot was asked for while no manager runs");
        },
        restore: async (chunks, meta) => {
          let first: Uint8Array | undefined;
          for await (const chunk of chunks) first ??= chunk;
          if (first !== undefined) members.restore(first, meta.confState);
        },
      },
      transport,
      clock,
      random: (n) => rng.below(n),
      ...(bootstrap === undefined ? {} : { bootstrap }),
      // It must not campaign by itself meanwhile.
      tickMs: 3_600_000,
      snapshotEntries: never,
      snapshotBytes: never,
      onFatal: (error) => bench.#fatal?.(explained(error, dataDir)),
      log,
    }).catch((error: unknown) => {
      throw explained(error, dataDir);
    });
    return bench;
  }

  get node(): RaftNode {
    if (this.#node === undefined) throw new Error("the bench is not open yet");
    return this.#node;
  }

  /** What the node answers. */
  async ask(message: MessageOf<"MsgApp">): Promise<MessageOf<"MsgAppResp">> {
    return await withDeadline(
      this.#clock,
      stepMsMax,
      "the log",
      () =>
        new Promise((resolve, reject) => {
          this.#fatal = reject;
          this.#waiting = (answer) => {
            if (answer.type === "MsgAppResp") resolve(answer);
          };
          this.node.receive([message]);
        }),
    );
  }

  /** Until everything up to `index` is applied. */
  async applied(index: number, signal?: AbortSignal): Promise<void> {
    await withDeadline(
      this.#clock,
      stepMsMax,
      "applying the log",
      (ended) =>
        new Promise<void>((resolve) => {
          const look = () => {
            if (this.node.status().applied >= index) resolve();
            else if (!ended.aborted) this.#clock.after(5, look);
          };
          look();
        }),
      signal,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#node?.[Symbol.asyncDispose]();
  }
}

/** The steps from `confState` to one with `id` as the only voter, each of them a simple change. */
export function changesToAlone(confState: ConfState, id: number): ConfChange["changes"][] {
  const steps: ConfChange["changes"][] = [];
  if (confState.votersOutgoing.length > 0) steps.push([]);
  // Out of a joint configuration, who was to become a learner is one.
  if (!confState.voters.includes(id)) steps.push([{ type: "add-voter", id }]);
  for (const other of participants(confState)) {
    const isGone =
      !confState.voters.includes(other) &&
      !confState.learners.includes(other) &&
      !confState.learnersNext.includes(other);
    if (other !== id && !isGone) steps.push([{ type: "remove", id: other }]);
  }
  return steps;
}

export async function recover(options: RecoverOptions, identity: Identity): Promise<Recovered> {
  const { log } = options;
  const { memberId: id } = identity;
  const members = new Members(identity.members, foundingConfState);
  await using bench = await Bench.open(options, id, members, { bootstrap: foundingConfState, begun: identity.begun });
  if (options.confirm !== undefined) {
    await bench.applied(bench.node.status().commit);
    await options.confirm(members.all().filter((member) => member.id !== id));
  }
  const { lastIndex, term: lastTerm } = bench.node.status();
  const term = lastTerm + 1;
  const from = { from: pretender, to: id, term };
  // As a leader finds out what a follower has: the refusal says the last entry's term.
  const { reject, hintIndex, hintTerm } = await bench.ask({
    ...from,
    type: "MsgApp",
    prevIndex: lastIndex,
    prevTerm: term,
    commit: 0,
    entries: [],
  });
  if (!reject || hintIndex !== lastIndex)
    throw new ClusterError("internal", `the log ends at ${lastIndex}, and its node says ${hintIndex}`);
  // Everything that is here counts as committed: whatever was acknowledged and came this far is kept.
  await bench.ask({
    ...from,
    type: "MsgApp",
    prevIndex: lastIndex,
    prevTerm: hintTerm,
    commit: lastIndex,
    entries: [],
  });
  await bench.applied(lastIndex);
  const known = members.all();
  const self = members.get(id) ?? selfOf(identity);
  const context = MemberChange.encode({ members: [{ ...self, address: identity.address }] }).finish();
  const steps = changesToAlone(bench.node.status().confState, id);
  const end = lastIndex + steps.length;
  await bench.ask({
    ...from,
    type: "MsgApp",
    prevIndex: lastIndex,
    prevTerm: hintTerm,
    commit: end,
    entries: steps.map((changes, i) => ({
      term,
      index: lastIndex + 1 + i,
      type: "conf-change",
      data: encodeConfChange({
        transition: "auto",
        changes,
        context: changes.length === 0 ? new Uint8Array(0) : context,
      }),
    })),
  });
  await bench.applied(end);
  const { voters, votersOutgoing, learners } = bench.node.status().confState;
  if (voters.length !== 1 || voters[0] !== id || votersOutgoing.length > 0 || learners.length > 0)
    throw new ClusterError(
      "internal",
      `the membership is ${JSON.stringify({ voters, votersOutgoing, learners })} after the recovery`,
    );
  const recovered: Identity = { ...identity, epoch: identity.epoch + 1, members: [self] };
  await writeIdentity(options.dataDir, recovered);
  log.info({ member: id, epoch: recovered.epoch, lastIndex: end }, "cluster recovered");
  return { identity: recovered, without: known.filter((member) => member.id !== id) };
}

function selfOf({ memberId: id, name, address, httpAddress, nonce }: Identity): Member {
  return { id, name, address, httpAddress, nonce, learner: false };
}

export async function restore(options: RestoreOptions): Promise<Identity> {
  const { dataDir, name, address, httpAddress, backup, rng, log } = options;
  // All of it is looked at before anything is made of it.
  const { header } = await checkBackup(backup);
  const identity: Identity = {
    // A new cluster: managers of the old one, wherever they may still be, must not take part.
    clusterId: rng.id(),
    cluster: header.cluster,
    memberId: 1,
    name,
    address,
    httpAddress,
    epoch: header.epoch + 1,
    store: "raft",
    etcd: [],
    nonce: rng.id(),
    begun: true,
    members: [],
  };
  const self = selfOf(identity);
  const members = new Members([], nobodyYet);
  const snapshot = { index: 1, term: 1, confState: foundingConfState };
  {
    await using bench = await Bench.open(options, 1, members, { begun: false });
    const message: MessageOf<"MsgSnap"> = { type: "MsgSnap", from: pretender, to: 1, term: 1, snapshot };
    await bench.node.receiveSnapshot(
      message,
      contents(SnapshotHeader.encode({ members: [self], nextId: 2 }).finish(), backup),
    );
    await bench.applied(1);
  }
  const whole = { ...identity, members: [self] };
  await writeIdentity(dataDir, whole);
  log.info({ cluster: identity.cluster, revision: header.revision }, "backup restored");
  return whole;
}

async function* contents(header: Uint8Array, backup: string): AsyncGenerator<Uint8Array> {
  yield header;
  yield* backupChunks(backup);
}
