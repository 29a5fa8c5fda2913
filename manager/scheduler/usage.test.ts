import * as fc from "fast-check";
import { expect, test } from "vitest";
import { TaskState } from "../../proto/mod.js";
import { makeTask } from "../../test/kit/objects.js";
import { Usage } from "./mod.js";

const states = [TaskState.ASSIGNED, TaskState.RUNNING, TaskState.SHUTDOWN, TaskState.ORPHANED] as const;

test("kept up to date task by task, it is what counting everything anew gives", () => {
  const changes = fc.array(
    fc.record({
      id: fc.constantFrom("a", "b", "c", "d"),
      nodeId: fc.constantFrom("", "h1", "h2"),
      serviceId: fc.constantFrom("s", "t"),
      state: fc.constantFrom(...states),
      desiredState: fc.constantFrom(TaskState.RUNNING, TaskState.SHUTDOWN),
      memoryBytes: fc.integer({ min: 0, max: 100 }),
      removed: fc.boolean(),
    }),
    { maxLength: 30 },
  );
  fc.assert(
    fc.property(changes, (script) => {
      const kept = new Usage();
      const now = new Map<string, (typeof script)[number]>();
      const set = (usage: Usage, { id, state, memoryBytes, ...rest }: (typeof script)[number]) =>
        usage.set(
          makeTask(id, {
            nodeId: rest.nodeId,
            serviceId: rest.serviceId,
            desiredState: rest.desiredState,
            status: { state, sinceMs: 0, message: "", error: "", container: undefined },
          }),
          { nanoCpus: 0, memoryBytes, generic: {} },
        );
      for (const change of script) {
        if (change.removed) {
          kept.remove(change.id);
          now.delete(change.id);
        } else {
          set(kept, change);
          now.set(change.id, change);
        }
      }
      const anew = new Usage();
      for (const change of now.values()) set(anew, change);
      for (const node of ["h1", "h2"]) expect(kept.node(node)).toEqual(anew.node(node));
      for (const service of ["s", "t"]) expect(kept.ofService(service)).toEqual(anew.ofService(service));
    }),
  );
});
