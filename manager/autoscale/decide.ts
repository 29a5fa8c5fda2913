// How many replicas a service should have by what its tasks use: pure.
//
// For each target: what is used in all, divided by what one replica should use, rounded up; the largest answer counts.
// What is not known is taken for what makes least happen: nothing when more replicas are asked for, reason enough not
// to when fewer are.

import type { AutoscaleSpec, AutoscaleStatus, Resources, Task } from "../../proto/mod.js";
import { TaskState } from "../../proto/mod.js";

/** What one task uses, as far as it is known. */
export interface Use {
  readonly nanoCpus: number | undefined;
  readonly memoryBytes: number | undefined;
  readonly requestsMilli: number;
}

export interface Scene {
  readonly spec: AutoscaleSpec;
  /** As the service's spec says now. */
  readonly replicas: number;
  readonly reservations: Resources;
  readonly limits: Resources;
  /** Of the service; those that ended or are to end do not matter. */
  readonly tasks: readonly Task[];
  readonly usage: ReadonlyMap<string, Use>;
  readonly status: AutoscaleStatus | undefined;
  /** What was wanted at earlier looks, the oldest first; see `remember`. */
  readonly history: readonly Wanted[];
  readonly nowMs: number;
}

export interface Wanted {
  readonly atMs: number;
  readonly replicas: number;
}

/** Why the number stays or changes, for whoever only writes down what is new. */
export type Outcome = "scaled" | "steady" | "unknown" | "waiting" | "bounded" | "off";

export interface Decision {
  readonly replicas: number;
  readonly outcome: Outcome;
  /** With the numbers. */
  readonly message: string;
  /** What the use alone asks for, within the bounds; undefined when that is not known. */
  readonly wanted: number | undefined;
}

/** A task that became ready lately is still warming up, and was not measured for a whole period yet. */
const settledMs = 30_000;
/** Within this share of the target nothing changes: no two measurements are equal. */
const deadBand = 0.1;
/** Of rounding in sums of many figures. */
const epsilon = 1e-9;
const upCoolDownMsDefault = 15_000;
const downCoolDownMsDefault = 300_000;
const historyMax = 1_000;

interface Metric {
  readonly target: number;
  readonly of: (use: Use) => number | undefined;
  readonly words: (mean: number) => string;
}

interface Reading {
  /** Replicas that the use asks for. */
  readonly wanted: number;
  /** Every replica was measured. */
  readonly complete: boolean;
  readonly words: string;
}

export function decide(scene: Scene): Decision {
  const { spec, replicas, history, nowMs, status } = scene;
  const stay = (outcome: Outcome, message: string, wanted?: number): Decision => ({
    replicas,
    outcome,
    message,
    wanted,
  });
  if (replicas === 0) return stay("off", "scaled to 0 by hand: scale it up for it to be scaled by use again");
  // One at least: of none nobody would know when it is needed again.
  const least = Math.max(1, spec.min);
  const bounded = Math.min(spec.max, Math.max(least, replicas));
  if (bounded !== replicas) return scaled(replicas, bounded, `bounds are ${spec.min} to ${spec.max}`, bounded);

  const metrics = metricsOf(scene);
  const readings = metrics.map((metric) => read(metric, scene)).filter((reading) => reading !== undefined);
  if (readings.length === 0) return stay("unknown", "nothing is known of what its tasks use");
  const [most] = readings.toSorted((a, b) => b.wanted - a.wanted);
  if (most === undefined) throw new Error("there are readings, and none of them is the largest");
  const wanted = Math.min(spec.max, Math.max(least, most.wanted));
  const lastMs = Math.max(status?.scaledUpAtMs ?? 0, status?.scaledDownAtMs ?? 0);

  if (wanted > replicas) {
    const upMs = lastMs + (spec.upCoolDownMs ?? upCoolDownMsDefault);
    if (nowMs < upMs) return stay("waiting", `${most.words}: cools down before it grows`, wanted);
    return scaled(replicas, Math.min(wanted, replicas * 2), most.words, wanted);
  }
  if (wanted === replicas) {
    const isAtMax = most.wanted > spec.max;
    return stay(isAtMax ? "bounded" : "steady", isAtMax ? `${most.words}: max is ${spec.max}` : most.words, wanted);
  }
  if (readings.length < metrics.length || readings.some(({ complete }) => !complete))
    return stay("unknown", `${most.words}: not of all replicas, so it does not shrink`, wanted);
  const coolMs = spec.downCoolDownMs ?? downCoolDownMsDefault;
  const [oldest] = history;
  if (nowMs < lastMs + coolMs || oldest === undefined || oldest.atMs > nowMs - coolMs)
    return stay("waiting", `${most.words}: cools down before it shrinks`, wanted);
  // What was needed a moment ago may be needed again in a moment.
  const needed = Math.max(wanted, ...history.filter(({ atMs }) => atMs > nowMs - coolMs).map((past) => past.replicas));
  if (needed >= replicas) return stay("steady", `${most.words}: it was more lately`, wanted);
  return scaled(replicas, needed, most.words, wanted);
}

/** The history with this look; kept for as long as shrinking goes by it, and one entry longer. */
export function remember(history: readonly Wanted[], wanted: Wanted, spec: AutoscaleSpec): Wanted[] {
  const fromMs = wanted.atMs - (spec.downCoolDownMs ?? downCoolDownMsDefault);
  const first = history.findLastIndex(({ atMs }) => atMs <= fromMs);
  const kept = [...history.slice(Math.max(0, first)), wanted];
  if (kept.length <= historyMax) return kept;
  // Too many to keep one by one: of two neighbours the larger, for as long as both.
  const merged: Wanted[] = [];
  for (let i = 0; i < kept.length; i += 2) {
    const [a, b] = [kept[i], kept[i + 1]];
    if (a === undefined) break;
    merged.push(b === undefined ? a : { atMs: i === 0 ? a.atMs : b.atMs, replicas: Math.max(a.replicas, b.replicas) });
  }
  return merged;
}

function scaled(from: number, to: number, why: string, wanted: number): Decision {
  return { replicas: to, outcome: "scaled", message: `autoscaled from ${from} to ${to}: ${why}`, wanted };
}

function metricsOf({ spec, reservations, limits }: Scene): Metric[] {
  const metrics: Metric[] = [];
  const share = (
    name: string,
    percent: number | undefined,
    whole: number,
    of: (use: Use) => number | undefined,
  ): void => {
    if (percent === undefined || whole === 0) return;
    metrics.push({
      target: (whole * percent) / 100,
      of,
      words: (mean) => `${name} ${Math.round((mean / whole) * 100)} % of ${percent} %`,
    });
  };
  share("cpu", spec.cpuPercent, reservations.nanoCpus || limits.nanoCpus, ({ nanoCpus }) => nanoCpus);
  share("memory", spec.memoryPercent, reservations.memoryBytes || limits.memoryBytes, ({ memoryBytes }) => memoryBytes);
  const { requestsPerReplica } = spec;
  if (requestsPerReplica !== undefined)
    metrics.push({
      target: requestsPerReplica * 1_000,
      of: ({ requestsMilli }) => requestsMilli,
      words: (mean) => `requests ${Math.round(mean / 100) / 10}/s of ${requestsPerReplica}/s`,
    });
  return metrics;
}

function read(metric: Metric, { tasks, usage, replicas, nowMs }: Scene): Reading | undefined {
  let sum = 0;
  let measured = 0;
  for (const task of tasks) {
    const isSettled = task.readySinceMs > 0 && nowMs - task.readySinceMs >= settledMs;
    if (task.desiredState > TaskState.RUNNING || !isSettled) continue;
    const use = usage.get(task.meta.id);
    const value = use === undefined ? undefined : metric.of(use);
    if (value === undefined) continue;
    sum += value;
    measured += 1;
  }
  if (measured === 0) return undefined;
  const words = metric.words(sum / measured);
  const complete = measured >= replicas;
  const ratio = sum / (replicas * metric.target);
  if (Math.abs(ratio - 1) <= deadBand + epsilon) return { wanted: replicas, complete, words };
  return { wanted: Math.ceil(sum / metric.target - epsilon), complete, words };
}
