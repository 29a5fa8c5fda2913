// Wire enums as words: one table each, for tables, JSON and progress alike.

import {
  ConcurrencyPolicy,
  ContainerHealth,
  ContainerPhase,
  FailureAction,
  JobState,
  MountType,
  NodeAvailability,
  NodeRole,
  NodeState,
  PlacementStrategy,
  PublishMode,
  PullPolicy,
  RestartCondition,
  RolloutState,
  type ServiceSpec,
  SlotVerdict,
  TaskState,
  UpdateOrder,
} from "../../proto/gen/flotilla/objects/v1/objects.js";
import { modeWord as wordOfMode } from "../../deploy/spec/mod.js";

/** NO_SUCH_NAME → no-such-name, by number; what a newer manager may add is shown as its number. */
function names(of: Readonly<Record<string, number>>): (value: number) => string {
  const words = new Map(Object.entries(of).map(([name, value]) => [value, name.toLowerCase().replaceAll("_", "-")]));
  return (value) => words.get(value) ?? `state-${value}`;
}

/** What a filter by such a word may ask for. */
export function wordsOf(of: Readonly<Record<string, number>>, from: number, to: number): string[] {
  return Object.values(of)
    .filter((value) => value >= from && value <= to)
    .map(names(of));
}

export const taskState = names(TaskState);
export const nodeState = names(NodeState);
export const nodeAvailability = names(NodeAvailability);
export const nodeRole = names(NodeRole);
export const rolloutState = names(RolloutState);
export const slotVerdict = names(SlotVerdict);
export const containerPhase = names(ContainerPhase);
export const containerHealth = names(ContainerHealth);
export const updateOrder = names(UpdateOrder);
export const failureAction = names(FailureAction);
export const restartCondition = names(RestartCondition);
export const pullPolicy = names(PullPolicy);
export const mountType = names(MountType);
export const jobState = names(JobState);
export const concurrencyPolicy = names(ConcurrencyPolicy);
export const placementStrategy = names(PlacementStrategy);
export const publishMode = names(PublishMode);

/** What a mode is called, in flags, tables and JSON; absent is the default. */
export function modeWord(mode: ServiceSpec["mode"]): string {
  return wordOfMode(mode ?? { $case: "replicated", value: { replicas: 0 } });
}

/** "running" → "Running". */
export function capital(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}
