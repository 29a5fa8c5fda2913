// What one seed decides before it begins: sizes, limits, and how unkind the world is. A profile bends these towards one
// kind of trouble, where chance alone would meet it too rarely.

import { Rng } from "./rng.js";

export const profiles = ["general", "calm", "figure8", "reads", "membership", "disks", "snapshots", "crashes"] as const;
export type Profile = (typeof profiles)[number];

export interface Plan {
  seed: number;
  profile: Profile;
  /** Members at the start: ids 1 … voters, then learners. */
  voters: number;
  learners: number;
  /** Ids that may be given to new members, beyond those. */
  spares: number;
  electionTick: number;
  heartbeatTick: number;
  /** Up to so many units more or fewer per tick of a node. */
  skewUnits: number;
  /** Ticks of the first phase, with faults. */
  faultTicks: number;
  /** Ticks of the second phase, by the end of which all must be well. */
  healTicks: number;
  /** Shares of messages. */
  loss: number;
  doubled: number;
  /** Long on the way. */
  late: number;
  encoded: number;
  delayUnitsMin: number;
  delayUnitsMax: number;
  lateUnitsMax: number;
  /** Units of a sync. */
  syncUnitsMin: number;
  syncUnitsMax: number;
  /** Units of one application; 0 is at once. */
  applyUnitsMax: number;
  /** Units between the end of a turn of work and flush(): what is stepped in between goes together. */
  flushUnitsMax: number;
  /** Mean units between faults; 0 for none. */
  faultUnits: number;
  faults: Readonly<Record<Fault, number>>;
  /** Mean units between membership changes and transfers; 0 for none. */
  changeUnits: number;
  transferUnits: number;
  /** The share of removed members that are switched off for good as soon as a leader says that they are removed. */
  switchOff: number;
  /** The share of changes after which a node that goes by them loses its power before it does much else. */
  cutAfterChange: number;
  clients: number;
  /** Units that a client waits between requests, at most. */
  thinkUnitsMax: number;
  /** Share of reads. */
  reads: number;
  keys: number;
  paddingMax: number;
  /** Bytes. */
  segmentBytes: number;
  /** Applied entries between snapshots; what stays in the log behind one. */
  snapshotEntries: number;
  keepEntries: number;
  maxSizePerMsg: number;
  maxCommittedSizePerReady: number;
  maxUncommittedSize: number;
  maxInflightMsgs: number;
  maxInflightBytes: number;
  maxPendingReads: number;
  disableForwarding: boolean;
  /** The share of unsynced sectors that survives a power cut. */
  keepSectors: number;
  tearSectors: number;
}

export type Fault =
  | "partition"
  | "isolate"
  | "one-way"
  | "mend"
  | "power-cut"
  | "power-cut-all"
  | "kill"
  | "pause"
  | "slow-disk"
  | "bit-flip"
  | "campaign"
  | "cut-leader";

const faults: Readonly<Record<Fault, number>> = {
  partition: 3,
  isolate: 3,
  "one-way": 3,
  mend: 6,
  "power-cut": 4,
  "power-cut-all": 1,
  kill: 2,
  pause: 2,
  "slow-disk": 1,
  "bit-flip": 0.4,
  campaign: 1,
  "cut-leader": 2,
};

export function planOf(seed: number, forced?: Profile): Plan {
  const rng = new Rng(seed, 1);
  const drawn = rng.chance(0.4) ? "general" : rng.pick(profiles);
  const profile = forced ?? drawn;
  const electionTick = rng.between(4, 10);
  const quiet = rng.chance(0.15);
  const plan: Plan = {
    seed,
    profile,
    voters: rng.between(1, 7),
    learners: rng.chance(0.25) ? 1 : 0,
    spares: 4,
    electionTick,
    heartbeatTick: rng.between(1, Math.min(3, electionTick - 2)),
    skewUnits: rng.between(0, 4),
    faultTicks: rng.between(120, 260),
    healTicks: electionTick * 60,
    loss: quiet ? 0 : rng.below(150) / 1_000,
    doubled: quiet ? 0 : rng.below(80) / 1_000,
    late: quiet ? 0 : rng.below(100) / 1_000,
    encoded: 0.1,
    delayUnitsMin: 1,
    delayUnitsMax: rng.between(2, 12),
    lateUnitsMax: rng.between(30, 300),
    syncUnitsMin: 1,
    syncUnitsMax: rng.between(1, 15),
    applyUnitsMax: rng.chance(0.5) ? 0 : rng.between(1, 20),
    flushUnitsMax: rng.chance(0.6) ? 0 : rng.between(1, 6),
    faultUnits: quiet ? 0 : rng.between(40, 240),
    faults,
    changeUnits: rng.chance(0.4) ? 0 : rng.between(60, 500),
    transferUnits: rng.chance(0.5) ? 0 : rng.between(100, 600),
    switchOff: 0.4,
    cutAfterChange: 0.03,
    clients: rng.between(1, 4),
    thinkUnitsMax: rng.between(2, 40),
    reads: rng.between(20, 60) / 100,
    keys: rng.between(1, 3),
    paddingMax: rng.pick([0, 0, 40, 600]),
    segmentBytes: rng.pick([4_096, 8_192, 65_536]),
    snapshotEntries: rng.between(5, 60),
    keepEntries: rng.between(0, 12),
    maxSizePerMsg: rng.pick([1, 64, 400, 65_536]),
    maxCommittedSizePerReady: rng.pick([1, 200, 65_536]),
    maxUncommittedSize: rng.pick([200, 2_000, 1_000_000]),
    maxInflightMsgs: rng.pick([1, 2, 4, 64]),
    maxInflightBytes: rng.pick([100, 1_000, 1_000_000]),
    maxPendingReads: rng.pick([2, 16, 1_000]),
    disableForwarding: rng.chance(0.2),
    keepSectors: rng.pick([0, 0.3, 0.5, 0.8, 1]),
    tearSectors: rng.pick([0, 0.2]),
  };
  return { ...plan, ...bend(profile, plan, rng) };
}

function bend(profile: Profile, plan: Plan, rng: Rng): Partial<Plan> {
  switch (profile) {
    case "general":
      return {};
    case "calm":
      // Little goes wrong, so that much gets done: batches, flow control and compaction at work.
      return {
        loss: plan.loss / 10,
        late: plan.late / 10,
        faultUnits: plan.faultUnits * 4,
        clients: 4,
        thinkUnitsMax: 5,
      };
    case "figure8":
      // Leaders fall before what they wrote is committed, again and again, and the log stays in sight.
      return {
        voters: rng.pick([3, 5]),
        learners: 0,
        changeUnits: 0,
        transferUnits: 0,
        electionTick: 4,
        heartbeatTick: 1,
        faultUnits: rng.between(20, 50),
        faults: { ...none, "cut-leader": 6, mend: 6, campaign: 5, "power-cut": 1, "one-way": 2, isolate: 2 },
        clients: 3,
        reads: 0.1,
        thinkUnitsMax: 10,
        snapshotEntries: 10_000,
        maxSizePerMsg: 1,
        late: 0.1,
      };
    case "reads":
      // Leaders that are none any more and do not know it, and clients that ask them.
      return {
        voters: rng.pick([3, 3, 5]),
        reads: 0.7,
        clients: 4,
        thinkUnitsMax: 6,
        faultUnits: rng.between(30, 90),
        faults: { ...none, "cut-leader": 6, pause: 4, isolate: 3, "one-way": 4, mend: 6, partition: 3 },
        late: 0.15,
        doubled: 0.1,
      };
    case "membership":
      return {
        voters: rng.between(1, 4),
        changeUnits: rng.between(15, 60),
        transferUnits: rng.between(100, 300),
        faultUnits: rng.between(60, 200),
        thinkUnitsMax: 20,
        applyUnitsMax: rng.between(0, 40),
        spares: 6,
        cutAfterChange: 0.1,
      };
    case "disks":
      return {
        voters: rng.between(3, 5),
        faultUnits: rng.between(40, 120),
        faults: { ...none, "power-cut": 6, "power-cut-all": 2, "bit-flip": 3, kill: 2, "slow-disk": 2, mend: 1 },
        thinkUnitsMax: 6,
        segmentBytes: 4_096,
        snapshotEntries: rng.between(20, 80),
        paddingMax: 600,
      };
    case "snapshots":
      return {
        voters: rng.between(2, 5),
        snapshotEntries: rng.between(3, 8),
        keepEntries: rng.between(0, 2),
        segmentBytes: 4_096,
        thinkUnitsMax: 5,
        faults: { ...none, isolate: 5, mend: 6, "power-cut": 5, kill: 2, "cut-leader": 2, "power-cut-all": 1 },
        faultUnits: rng.between(50, 120),
        syncUnitsMax: 15,
      };
    case "crashes":
      return {
        voters: rng.between(1, 5),
        faultUnits: rng.between(20, 60),
        faults: { ...none, "power-cut": 8, "power-cut-all": 2, kill: 4, mend: 1, "slow-disk": 1 },
        syncUnitsMax: rng.between(8, 30),
        thinkUnitsMax: 8,
      };
  }
}

const none: Readonly<Record<Fault, number>> = {
  partition: 0,
  isolate: 0,
  "one-way": 0,
  mend: 0,
  "power-cut": 0,
  "power-cut-all": 0,
  kill: 0,
  pause: 0,
  "slow-disk": 0,
  "bit-flip": 0,
  campaign: 0,
  "cut-leader": 0,
};
