// However many tasks are asked to leave and nodes are drained, a service that is well loses no more than its update
// settings allow, and gets no more tasks; and once that stops, all stay where they are.

import * as fc from "fast-check";
import { expect, test } from "vitest";
import { budgetOf, hasEnded, isWanted } from "../../deploy/strategy/mod.js";
import { NodeAvailability, NodeState, type ServiceSpec, UpdateOrder } from "../../proto/mod.js";
import { makeSpec } from "../../test/kit/objects.js";
import { ServiceWorld } from "../../test/kit/service-world.js";

const updates: fc.Arbitrary<Partial<ServiceSpec["update"]>> = fc.oneof(
  fc.record({ maxUnavailable: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ order: fc.constant(UpdateOrder.START_FIRST), maxSurge: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ maxUnavailable: fc.constant(1), maxSurge: fc.integer({ min: 1, max: 2 }) }),
);

type Action =
  | { kind: "leave"; pick: number; startFirst: boolean }
  | { kind: "node"; node: number; availability: NodeAvailability }
  | { kind: "run"; ms: number };

const actions: fc.Arbitrary<Action> = fc.oneof(
  fc.record({ kind: fc.constant("leave" as const), pick: fc.nat({ max: 8 }), startFirst: fc.boolean() }),
  fc.record({
    kind: fc.constant("node" as const),
    // One of the four always takes tasks.
    node: fc.integer({ min: 1, max: 3 }),
    availability: fc.constantFrom(NodeAvailability.ACTIVE, NodeAvailability.CORDONED, NodeAvailability.DRAINED),
  }),
  fc.record({ kind: fc.constant("run" as const), ms: fc.integer({ min: 0, max: 5000 }) }),
);

test("moves cost no more than updates may", () => {
  fc.assert(
    fc.property(
      updates,
      fc.integer({ min: 1, max: 6 }),
      fc.array(actions, { maxLength: 30 }),
      fc.integer({ min: 0, max: 2000 }),
      fc.integer(),
      (update, replicas, script, stopMs, seed) => {
        const spec = makeSpec({ image: "one", replicas });
        const world = new ServiceWorld({ ...spec, update: { ...spec.update, ...update } }, { seed, nodes: 4, stopMs });
        expect(world.run(60_000, () => world.converged())).toBe(true);
        const { maxSurge, maxUnavailable } = budgetOf(world.service.spec.update);
        const check = () => {
          const ready = world.ready().length;
          if (ready < replicas - maxUnavailable) throw new Error(`only ${ready} of ${replicas} are ready`);
          const wanted = [...world.tasks.values()].filter((task) => isWanted(task) && !hasEnded(task)).length;
          if (wanted > replicas + Math.max(1, maxSurge)) throw new Error(`${wanted} tasks for ${replicas} replicas`);
        };
        world.check = check;
        for (const action of script) {
          if (action.kind === "run") world.run(action.ms);
          else if (action.kind === "node") world.setNode(`h${action.node}`, action.availability, NodeState.READY);
          else {
            const ready = world.ready();
            const task = ready[action.pick % Math.max(1, ready.length)];
            if (task !== undefined) world.askToLeave(task.meta.id, action.startFirst);
          }
        }
        expect(
          world.run(120_000, () => world.converged() && world.ready().every(({ leave }) => leave === undefined)),
        ).toBe(true);
        const drained = [...world.nodes.values()].filter(
          ({ spec: { availability } }) => availability === NodeAvailability.DRAINED,
        );
        for (const { meta } of drained) expect(world.ready().map(({ nodeId }) => nodeId)).not.toContain(meta.id);
        world.run(60_000);
        expect(world.plan()).toBe(0);
      },
    ),
    { numRuns: 150 },
  );
}, 120_000);
