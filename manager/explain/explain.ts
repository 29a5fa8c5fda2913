// The whole explanation of one task.

import { newestFirst } from "../../deploy/strategy/mod.js";
import type { Event, Task } from "../../proto/mod.js";
import type { ExplainTaskResponse } from "../../proto/gen/flotilla/control/v1/control.js";
import type { View } from "../store/mod.js";
import { situationOf } from "./situation.js";
import { stepsOf } from "./steps.js";
import { verdictsOf } from "./verdicts.js";

export interface ExplainOptions {
  now: number;
  /** The remembered events of an object, in order of time. */
  events: (id: string) => readonly Event[];
}

/** What the explanation is made from: the task and everything that may be the reason for how it is. */
export interface Scene {
  view: View;
  task: Task;
  /** The other tasks of its slot, newest first. */
  others: readonly Task[];
  now: number;
}

export function explainTask(view: View, task: Task, { now, events }: ExplainOptions): ExplainTaskResponse {
  const others = [...view.tasksOfService(task.serviceId)]
    .filter(({ meta, slot, run }) => meta.id !== task.meta.id && slot === task.slot && run === task.run)
    .sort(newestFirst);
  const scene: Scene = { view, task, others, now };
  const { summary, advice } = situationOf(scene);
  return {
    task,
    nodeName: view.nodes.get(task.nodeId)?.description.hostname ?? "",
    summary,
    steps: stepsOf(scene, events),
    nodes: verdictsOf(scene),
    advice,
  };
}
