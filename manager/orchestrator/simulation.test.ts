// Whole services under random users, failures and lost nodes: what must hold at every write, and that every run ends
// well once the trouble stops.

import * as fc from "fast-check";
import { expect, test } from "vitest";
import { hasEnded, isReady } from "../../deploy/strategy/mod.js";
import {
  FailureAction,
  NodeAvailability,
  NodeState,
  replicasOf,
  type ServiceSpec,
  TaskState,
  UpdateOrder,
} from "../../proto/mod.js";
import { ClusterError } from "../../lib/mod.js";
import { makeSpec } from "../../test/kit/objects.js";
import { checkAll } from "../../test/kit/service-checks.js";
import { ServiceWorld } from "../../test/kit/service-world.js";

function specWith(image: string, replicas: number, update: Partial<ServiceSpec["update"]> = {}): ServiceSpec {
  const spec = makeSpec({ image, replicas });
  return {
    ...spec,
    update: { ...spec.update, ...update },
    rollback: { ...spec.rollback, parallelism: update.parallelism ?? 1 },
  };
}

const updates = fc.record({
  parallelism: fc.integer({ min: 0, max: 4 }),
  delayMs: fc.constantFrom(0, 0, 2000),
  order: fc.constantFrom(UpdateOrder.STOP_FIRST, UpdateOrder.START_FIRST),
  monitorMs: fc.constantFrom(0, 1000, 5000),
  failureAction: fc.constantFrom(FailureAction.PAUSE, FailureAction.CONTINUE, FailureAction.ROLLBACK),
  maxFailureRatio: fc.constantFrom(0, 0.4),
  minHealthyTimeMs: fc.constantFrom(0, 1500),
  progressDeadlineMs: fc.constantFrom(10_000, 60_000),
});

test("a rolling update without trouble keeps enough replicas ready, adds no more than it may, and completes", () => {
  fc.assert(
    fc.property(
      updates,
      fc.integer({ min: 1, max: 9 }),
      fc.integer({ min: 0, max: 2000 }),
      fc.integer({ min: 0, max: 2000 }),
      fc.integer(),
      (update, replicas, startMs, stopMs, seed) => {
        const world = new ServiceWorld(specWith("one", replicas, update), { seed, startMs, stopMs });
        expect(world.run(60_000, () => world.converged())).toBe(true);
        world.check = checkAll(world);
        world.update(specWith("two", replicas, update));
        expect(world.run(replicas * 30_000, () => world.converged())).toBe(true);
        expect(world.ready().map((task) => world.imageOf(task))).toEqual(Array(replicas).fill("two"));
      },
    ),
    { numRuns: 100 },
  );
}, 120_000);

type Action =
  | { kind: "update"; image: string; update: Partial<ServiceSpec["update"]> }
  | { kind: "scale"; replicas: number }
  | { kind: "verb"; verb: "pause" | "resume" | "abort" | "rollback" | "force" }
  | { kind: "node"; node: number; availability: NodeAvailability; state: NodeState }
  | { kind: "cut"; steps: number }
  | { kind: "run"; ms: number };

const images = { rejects: "rejects", exits: "exits", loops: "crash-loops", hangs: "hangs", ends: "completes" } as const;

const actions: fc.Arbitrary<Action> = fc.oneof(
  fc.record({
    kind: fc.constant("update" as const),
    image: fc.constantFrom("one", "two", "three", ...Object.keys(images)),
    update: updates,
  }),
  fc.record({ kind: fc.constant("scale" as const), replicas: fc.integer({ min: 0, max: 8 }) }),
  fc.record({
    kind: fc.constant("verb" as const),
    verb: fc.constantFrom("pause" as const, "resume" as const, "abort" as const, "rollback" as const, "force" as const),
  }),
  fc.record({
    kind: fc.constant("node" as const),
    node: fc.integer({ min: 1, max: 3 }),
    availability: fc.constantFrom(NodeAvailability.ACTIVE, NodeAvailability.CORDONED, NodeAvailability.DRAINED),
    state: fc.constantFrom(NodeState.READY, NodeState.UNKNOWN, NodeState.DOWN),
  }),
  fc.record({ kind: fc.constant("cut" as const), steps: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ kind: fc.constant("run" as const), ms: fc.integer({ min: 0, max: 20_000 }) }),
);

function act(world: ServiceWorld, action: Action): void {
  switch (action.kind) {
    case "update":
      world.update(specWith(action.image, replicasOf(world.service.spec), action.update));
      return;
    case "scale":
      world.scale(action.replicas);
      return;
    case "verb":
      try {
        if (action.verb === "force") world.update(world.service.spec, true);
        else world[action.verb]();
      } catch (refused) {
        // Users may ask for what is not possible now, and get told.
        if (!(refused instanceof ClusterError) || refused.code !== "failed_precondition") throw refused;
      }
      return;
    case "node":
      world.setNode(`h${action.node}`, action.availability, action.state);
      return;
    case "cut":
      world.plan(action.steps);
      return;
    case "run":
      world.run(action.ms);
      return;
  }
}

test("whatever users, containers and nodes do, no invariant breaks, and all ends well once they stop", () => {
  fc.assert(
    fc.property(fc.array(actions, { maxLength: 25 }), updates, fc.integer(), (script, update, seed) => {
      const world = new ServiceWorld(specWith("one", 4, update), { seed, images });
      world.check = checkAll(world);
      for (const action of script) act(world, action);
      for (const id of world.nodes.keys()) world.setNode(id, NodeAvailability.ACTIVE, NodeState.READY);
      const replicas = replicasOf(world.service.spec);
      world.update(specWith("last", replicas, update), true);
      expect(world.run(3_600_000, () => world.converged())).toBe(true);
      expect(world.ready().filter((task) => world.imageOf(task) === "last").length).toBe(replicas);
      // Nothing is left to do, now or later: old tasks stop, and then all is still.
      world.run(120_000);
      expect(world.plan()).toBe(0);
      expect([...world.tasks.values()].filter((task) => !hasEnded(task) && !isReady(task))).toEqual([]);
      world.remove();
      expect(world.run(60_000, () => world.gone)).toBe(true);
      expect([world.tasks.size, world.revisions.size, world.rollouts.size]).toEqual([0, 0, 0]);
    }),
    { numRuns: 100 },
  );
}, 120_000);
