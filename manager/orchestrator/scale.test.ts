import { expect, test } from "vitest";
import { type Task, TaskState } from "../../proto/mod.js";
import { makeTask, readyStatus } from "../../test/kit/objects.js";
import { chooseSlots } from "./scale.js";

const ready = (slot: number, nodeId: string): Task =>
  makeTask(`t${slot}`, { slot, nodeId, status: readyStatus(), readySinceMs: 1 });
const starting = (slot: number, nodeId: string): Task => makeTask(`t${slot}`, { slot, nodeId });

function slotsOf(...tasks: Task[]): Map<number, Task[]> {
  const slots = new Map<number, Task[]>();
  for (const task of tasks) slots.set(task.slot, [...(slots.get(task.slot) ?? []), task]);
  return slots;
}

test.each<[string, Task[], number, number[]]>([
  ["without a node", [ready(1, "h1"), ready(2, "h1"), starting(3, ""), starting(4, "h2")], 3, [3]],
  ["not ready", [ready(1, "h1"), starting(2, "h2"), ready(3, "h1")], 2, [2]],
  ["on the fullest node", [ready(1, "h1"), ready(2, "h2"), ready(3, "h1"), ready(4, "h3")], 3, [3]],
  ["the highest", [ready(1, "h1"), ready(2, "h2"), ready(3, "h3")], 2, [3]],
  [
    "case: balanced scale-down, node after node,",
    [ready(1, "h1"), ready(2, "h1"), ready(3, "h1"), ready(4, "h2"), ready(5, "h2"), ready(6, "h3")],
    3,
    [2, 3, 5],
  ],
  ["all of them", [ready(1, "h1"), starting(2, "")], 0, [1, 2]],
])("shrinking removes slots %s first", (_, tasks, replicas, expected) => {
  expect(chooseSlots(slotsOf(...tasks), replicas).drop).toEqual(expected);
});

test("a slot whose task waits for its back-off is a slot, and the first to go", () => {
  const over = makeTask("old", {
    slot: 1,
    nodeId: "h1",
    desiredState: TaskState.SHUTDOWN,
    status: { ...readyStatus(), state: TaskState.FAILED },
  });
  expect(chooseSlots(slotsOf(over, ready(2, "h1")), 2)).toEqual({ keep: [1, 2], drop: [] });
  expect(chooseSlots(slotsOf(over, ready(2, "h1")), 1)).toEqual({ keep: [2], drop: [1] });
});

test("growing takes the lowest free numbers; a slot that is being removed is free", () => {
  const leaving = makeTask("leaving", { slot: 2, nodeId: "h1", desiredState: TaskState.REMOVE });
  expect(chooseSlots(slotsOf(ready(3, "h1"), leaving), 3)).toEqual({ keep: [1, 2, 3], drop: [] });
});
