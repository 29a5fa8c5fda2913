// Whole services under random users, failures and nodes that come and go: what must hold at every write (invariants
// 3, 4, 5 and 9: service-world.ts and service-checks.ts), and that every run ends well once the trouble stops.

import * as fc from "fast-check";
import { expect, test } from "vitest";
import { hasEnded, isReady } from "../../deploy/strategy/mod.js";
import { NodeAvailability, NodeState, replicasOf, type UpdateConfig } from "../../proto/mod.js";
import { ClusterError } from "../../lib/mod.js";
import { propertyTimeoutMs, runs, specOf, updates } from "../../test/kit/arbitraries.js";
import type { Behaviour } from "../../test/kit/service-agents.js";
import { checkAll } from "../../test/kit/service-checks.js";
import { ServiceWorld } from "../../test/kit/service-world.js";

const pauses = fc.integer({ min: 0, max: 2000 });

test(
  "a rolling update without trouble keeps within its budget, makes each new task once, and completes",
  () => {
    fc.assert(
      fc.property(
        updates,
        fc.oneof(fc.integer({ min: 1, max: 9 }), fc.constant("global" as const)),
        pauses,
        pauses,
        fc.boolean(),
        fc.integer(),
        (update, size, startMs, stopMs, leadersDie, seed) => {
          const replicas = size === "global" ? 5 : size;
          const nodes = size === "global" ? replicas : 3;
          const options = { seed, nodes, startMs, stopMs, leadersDie };
          const world = new ServiceWorld(specOf("one", size, update), options);
          expect(world.run(60_000, () => world.converged())).toBe(true);
          let made = 0;
          const check = checkAll(world);
          world.check = (write) => {
            if (write.before === undefined && write.after !== undefined) made += 1;
            check(write);
          };
          world.update(specOf("two", size, update));
          expect(world.run(replicas * 30_000, () => world.converged())).toBe(true);
          expect(world.ready().map((task) => world.imageOf(task))).toEqual(Array(replicas).fill("two"));
          expect(made).toBe(replicas);
        },
      ),
      runs(100),
    );
  },
  propertyTimeoutMs,
);

type Verb = "pause" | "resume" | "abort" | "rollback" | "force";
type Action =
  | { kind: "update"; image: string; update: UpdateConfig }
  | { kind: "scale"; replicas: number }
  | { kind: "verb"; verb: Verb }
  | { kind: "node"; node: number; availability: NodeAvailability; state: NodeState }
  | { kind: "join" | "forget"; node: number }
  | { kind: "leave"; which: number; startFirst: boolean }
  | { kind: "cut"; steps: number }
  | { kind: "run"; ms: number };

const images: Record<string, Behaviour> = {
  rejects: "rejects",
  exits: "exits",
  loops: "crash-loops",
  hangs: "hangs",
  ends: "completes",
  sickens: "sickens",
  flaps: "flaps",
};

const kind = <K extends string>(name: K) => fc.constant(name);
const nodeNumbers = fc.integer({ min: 1, max: 4 });
const actions: fc.Arbitrary<Action> = fc.oneof(
  fc.record({
    kind: kind("update"),
    image: fc.constantFrom("one", "two", "three", ...Object.keys(images)),
    update: updates,
  }),
  fc.record({ kind: kind("scale"), replicas: fc.integer({ min: 0, max: 8 }) }),
  fc.record({ kind: kind("verb"), verb: fc.constantFrom<Verb>("pause", "resume", "abort", "rollback", "force") }),
  fc.record({
    kind: kind("node"),
    node: nodeNumbers,
    availability: fc.constantFrom(NodeAvailability.ACTIVE, NodeAvailability.CORDONED, NodeAvailability.DRAINED),
    state: fc.constantFrom(NodeState.READY, NodeState.UNKNOWN, NodeState.DOWN),
  }),
  fc.record({ kind: fc.constantFrom("join" as const, "forget" as const), node: nodeNumbers }),
  fc.record({ kind: kind("leave"), which: fc.nat(), startFirst: fc.boolean() }),
  fc.record({ kind: kind("cut"), steps: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ kind: kind("run"), ms: fc.integer({ min: 0, max: 20_000 }) }),
);

/** What the API would have said is told to users: they may ask for what is not possible now. */
function told(act: () => void): void {
  try {
    act();
  } catch (refused) {
    if (!(refused instanceof ClusterError) || refused.code !== "failed_precondition") throw refused;
  }
}

function sizeOf({ service }: ServiceWorld): number | "global" {
  return service.spec.mode.$case === "global" ? "global" : replicasOf(service.spec);
}

function act(world: ServiceWorld, action: Action): void {
  switch (action.kind) {
    case "update":
      world.update(specOf(action.image, sizeOf(world), action.update));
      return;
    case "scale":
      if (sizeOf(world) !== "global") world.scale(action.replicas);
      return;
    case "verb":
      told(() => (action.verb === "force" ? world.update(world.service.spec, true) : world[action.verb]()));
      return;
    case "node":
      if (world.nodes.has(`h${action.node}`)) world.setNode(`h${action.node}`, action.availability, action.state);
      return;
    case "join":
      if (!world.nodes.has(`h${action.node}`)) world.join(`h${action.node}`);
      return;
    case "forget":
      world.forget(`h${action.node}`);
      return;
    case "leave": {
      const ready = world.ready();
      const task = ready[action.which % Math.max(1, ready.length)];
      if (task !== undefined) world.askToLeave(task.meta.id, action.startFirst);
      return;
    }
    case "cut":
      world.plan(action.steps);
      return;
    case "run":
      world.run(action.ms);
      return;
  }
}

test(
  "whatever users, containers and nodes do, no invariant breaks, and all ends well once they stop",
  () => {
    fc.assert(
      fc.property(
        fc.array(actions, { maxLength: 25 }),
        fc.constantFrom(4, "global" as const),
        updates,
        fc.boolean(),
        fc.integer(),
        (script, size, update, leadersDie, seed) => {
          const world = new ServiceWorld(specOf("one", size, update), { seed, images, leadersDie });
          world.check = checkAll(world);
          for (const action of script) act(world, action);
          for (const id of ["h1", "h2", "h3", "h4"])
            if (world.nodes.has(id)) world.setNode(id, NodeAvailability.ACTIVE, NodeState.READY);
            else world.join(id);
          world.update(specOf("last", sizeOf(world), update), true);
          const replicas = size === "global" ? 4 : replicasOf(world.service.spec);
          expect(world.run(3_600_000, () => world.converged())).toBe(true);
          expect(world.ready().filter((task) => world.imageOf(task) === "last").length).toBe(replicas);
          // Nothing is left to do, now or later: old tasks stop, and then all is still.
          world.run(120_000);
          expect(world.plan()).toBe(0);
          expect([...world.tasks.values()].filter((task) => !hasEnded(task) && !isReady(task))).toEqual([]);
          world.remove();
          expect(world.run(60_000, () => world.gone)).toBe(true);
          expect([world.tasks.size, world.revisions.size, world.rollouts.size]).toEqual([0, 0, 0]);
        },
      ),
      runs(100),
    );
  },
  propertyTimeoutMs,
);
