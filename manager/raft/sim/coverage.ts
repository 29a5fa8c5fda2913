// What a run has met, counted: a simulator that finds nothing is worth only what it exercised.

export const covered = [
  "elections",
  "committed",
  "applied",
  "requests",
  "requestsRetried",
  "requestsRepeated",
  "requestsOpen",
  "reads",
  "refusals",
  "messages",
  "messagesLost",
  "messagesDoubled",
  "messagesReordered",
  "messagesCut",
  "messagesEncoded",
  "partitions",
  "oneWayCuts",
  "pauses",
  "slowDisks",
  "processKills",
  "powerCuts",
  "powerCutsWithLoss",
  "restarts",
  "tornTailsRepaired",
  "bitFlips",
  "disksRefused",
  "snapshotsTaken",
  "snapshotsSent",
  "snapshotsFailed",
  "snapshotsInstalled",
  "segmentsRemoved",
  "truncations",
  "votersAdded",
  "learnersAdded",
  "learnersPromoted",
  "membersRemoved",
  "jointEntered",
  "jointLeft",
  "changesRefused",
  "transfersAsked",
  "transfersDone",
  "leadersRemoved",
  "returnedAfterRemoval",
  "switchedOff",
  "powerCutsAfterChange",
  "histories",
  "healed",
] as const;

export type Covered = (typeof covered)[number];

export type Coverage = Record<Covered, number>;

export function noCoverage(): Coverage {
  const none: Partial<Coverage> = {};
  for (const name of covered) none[name] = 0;
  return none as Coverage;
}

export function addCoverage(to: Coverage, from: Coverage): void {
  for (const name of covered) to[name] += from[name];
}
