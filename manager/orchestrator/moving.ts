// Tasks that are to make way though nothing is wrong with them: on drained nodes, and those that the rebalancer, the
// scheduler or a user asked to leave. A service loses no more by that than its update settings allow: one slot at a
// time, or as many as max_surge (with replacements first) or max_unavailable (without) say.

import { type Budget, isReady, isWanted, hasEnded } from "../../deploy/strategy/mod.js";
import { type Node, NodeAvailability, NodeState, type Task, type UpdateConfig } from "../../proto/mod.js";
import type { Draft } from "./draft.js";

/** Where the node says none itself. */
export const drainDeadlineMsDefault = 600_000;

export interface Leaving {
  drained: boolean;
  /** Since when. */
  atMs: number;
  /** Its replacement must be ready first. Of drained ones the service's settings say. */
  startFirst: boolean;
  /** What its replacement is made for, in words. */
  cause: string;
  /** When it stops even without a replacement; undefined: the move is given up instead. */
  deadlineMs: number | undefined;
}

type NodeOf = (id: string) => Node | undefined;

export function leavingOf(task: Task, node: NodeOf): Leaving | undefined {
  const on = node(task.nodeId);
  if (on?.spec.availability === NodeAvailability.DRAINED) {
    const { availabilitySinceMs: atMs, drainDeadlineMs = drainDeadlineMsDefault } = on.spec;
    return {
      drained: true,
      atMs,
      startFirst: false,
      cause: `moves ${task.meta.id} off drained ${on.description.hostname}`,
      deadlineMs: atMs + drainDeadlineMs,
    };
  }
  if (task.leave === undefined) return undefined;
  const { atMs, startFirst, reason } = task.leave;
  return { drained: false, atMs, startFirst, cause: `moves ${task.meta.id}: ${reason}`, deadlineMs: undefined };
}

/**
 * Moves that were not made within the service's progress deadline are given up: the tasks stay where they are, and
 * whoever asked may ask again. A drained node's are not: they go at its deadline.
 */
export function giveUpMoves(
  draft: Draft,
  { progressDeadlineMs }: Pick<UpdateConfig, "progressDeadlineMs">,
  wake: (atMs: number) => void,
): void {
  for (const task of draft.tasks()) {
    if (task.leave === undefined || !isWanted(task) || hasEnded(task)) continue;
    const givenUpAtMs = task.leave.atMs + progressDeadlineMs;
    if (draft.now >= givenUpAtMs) draft.change({ ...task, leave: undefined });
    else wake(givenUpAtMs);
  }
}

/** What the moves of one plan may still cost, counted from the draft when it is first asked. */
export class MoveBudget {
  readonly #budget: Budget;
  readonly #slots: () => Iterable<readonly Task[]>;
  readonly #isFinished: (task: Task) => boolean;
  readonly #node: NodeOf;
  readonly #rolling: boolean;
  #spent: { unavailable: number; surge: number } | undefined;
  /** Of the unavailable ones, those whose tasks found no node. */
  #homeless = 0;

  constructor(
    budget: Budget,
    counted: {
      /** Each slot's tasks as the plan has them by now. */
      slots: () => Iterable<readonly Task[]>;
      /** Whether a task ended by itself and is not replaced. */
      isFinished: (task: Task) => boolean;
      node: NodeOf;
      /** Whether a rollout is under way. */
      rolling: boolean;
    },
  ) {
    this.#budget = budget;
    this.#slots = counted.slots;
    this.#isFinished = counted.isFinished;
    this.#node = counted.node;
    this.#rolling = counted.rolling;
  }

  /**
   * How a slot with a ready task may be moved now; undefined: later. Where no slot may ever be without a ready task,
   * the replacement comes first whatever was asked.
   */
  take({ drained, startFirst }: Leaving, isBound: boolean): "start-first" | "stop-first" | undefined {
    const { maxSurge, maxUnavailable } = this.#budget;
    this.#spent ??= this.#count();
    const first = startFirst || maxUnavailable === 0 || (drained && maxSurge > 0);
    if (first && !isBound) {
      if (this.#spent.surge >= Math.max(1, maxSurge)) return undefined;
      this.#spent.surge += 1;
      return "start-first";
    }
    // Who is pushed out may find no room again, and the next one is not to wait for that: there is room for neither
    // before others leave. In a rollout the scheduler pushes out no more than may be missing.
    const homeless = drained || startFirst || this.#rolling ? 0 : this.#homeless;
    // Bound to its node, it cannot be replaced elsewhere first: it counts as at least one that may be missing.
    if (this.#spent.unavailable - homeless >= Math.max(isBound ? 1 : 0, maxUnavailable)) return undefined;
    this.#spent.unavailable += 1;
    return "stop-first";
  }

  /** How a slot whose ready task is of an old revision may be filled anew outside of a rollout; undefined: later. */
  takeOver(): "start-first" | "stop-first" | undefined {
    const { maxSurge, maxUnavailable, startsFirst } = this.#budget;
    this.#spent ??= this.#count();
    const surges = this.#spent.surge < maxSurge;
    // With a budget of nothing, one at a time: nobody is told of a wait here, so none may be for ever.
    const stops = this.#spent.unavailable < (maxSurge === 0 ? Math.max(1, maxUnavailable) : maxUnavailable);
    if (startsFirst ? surges : surges && !stops) {
      this.#spent.surge += 1;
      return "start-first";
    }
    if (!stops) return undefined;
    this.#spent.unavailable += 1;
    return "stop-first";
  }

  /** So many tasks beyond one per slot were told to stop in this plan. */
  giveBack(tasks: number): void {
    if (this.#spent !== undefined) this.#spent.surge -= tasks;
  }

  #count(): { unavailable: number; surge: number } {
    const spent = { unavailable: 0, surge: 0 };
    for (const tasks of this.#slots()) {
      let live = 0;
      let placed = 0;
      let served = false;
      for (const task of tasks) {
        if (!isWanted(task)) continue;
        if (hasEnded(task)) {
          if (this.#isFinished(task)) served = true;
          continue;
        }
        const state = this.#node(task.nodeId)?.status.state;
        if (task.nodeId === "" || (state !== undefined && state !== NodeState.DOWN)) live += 1;
        if (task.nodeId !== "" || task.placementMessage === "") placed += 1;
        if (isReady(task) && state === NodeState.READY) served = true;
      }
      spent.surge += Math.max(0, live - 1);
      if (served) continue;
      spent.unavailable += 1;
      if (live > 0 && placed === 0) this.#homeless += 1;
    }
    return spent;
  }
}
