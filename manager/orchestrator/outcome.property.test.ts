// How rollouts of every kind of broken image end, whatever else happens meanwhile: in the state that their failure
// action asks for, within their deadlines, and never below what must stay available (service-checks.ts, at each write).

import * as fc from "fast-check";
import { expect, test } from "vitest";
import {
  FailureAction,
  NodeAvailability,
  NodeState,
  type Rollout,
  RolloutState,
  type UpdateConfig,
} from "../../proto/mod.js";
import { propertyTimeoutMs, runs, specOf, updates } from "../../test/kit/arbitraries.js";
import type { Behaviour } from "../../test/kit/service-agents.js";
import { checkAll } from "../../test/kit/service-checks.js";
import { ServiceWorld } from "../../test/kit/service-world.js";

const kinds: readonly Behaviour[] = ["good", "rejects", "exits", "crash-loops", "hangs", "sickens", "flaps"];
const images: Record<string, Behaviour> = Object.fromEntries(kinds.map((kind) => [kind, kind]));

/** One new task at most: told to stop, stopped, released, made again after a back-off, placed and started. */
const slackMs = 180_000;

/** The longest that a rollout of so many slots may take: each of them alone, one after the other. */
function longestMs(slots: number, { progressDeadlineMs, delayMs, monitorMs, minHealthyTimeMs }: UpdateConfig): number {
  return (slots + 2) * (progressDeadlineMs + delayMs + monitorMs + minHealthyTimeMs) + slackMs;
}

/** Whether nothing more comes of it by itself. */
function isOver(world: ServiceWorld): boolean {
  return world.rollout !== undefined && world.rollout.state !== RolloutState.RUNNING;
}

type Trouble =
  | { kind: "none" }
  | { kind: "scale"; replicas: number }
  | { kind: "lost" | "cut off" | "drained" | "cordoned"; node: string }
  | { kind: "superseded"; images: string[] };

const troubles: fc.Arbitrary<Trouble> = fc.oneof(
  fc.constant({ kind: "none" as const }),
  fc.record({ kind: fc.constant("scale" as const), replicas: fc.integer({ min: 1, max: 8 }) }),
  fc.record({
    kind: fc.constantFrom("lost" as const, "cut off" as const, "drained" as const, "cordoned" as const),
    node: fc.constantFrom("h1", "h2", "h3"),
  }),
  fc.record({
    kind: fc.constant("superseded" as const),
    images: fc.array(fc.constantFrom(...kinds), { minLength: 1, maxLength: 2 }),
  }),
);

/** Makes the trouble. Answers the image that was asked for last. */
function cause(world: ServiceWorld, trouble: Trouble, asked: Asked): string {
  switch (trouble.kind) {
    case "none":
      return asked.image;
    case "scale":
      if (asked.size !== "global") world.scale(trouble.replicas);
      else world.join("h9");
      return asked.image;
    case "lost":
      world.setNode(trouble.node, NodeAvailability.ACTIVE, NodeState.DOWN);
      return asked.image;
    case "cut off":
      world.setNode(trouble.node, NodeAvailability.ACTIVE, NodeState.UNKNOWN);
      return asked.image;
    case "drained":
      world.setNode(trouble.node, NodeAvailability.DRAINED, NodeState.READY);
      return asked.image;
    case "cordoned":
      world.setNode(trouble.node, NodeAvailability.CORDONED, NodeState.READY);
      return asked.image;
    case "superseded": {
      let last = asked.image;
      for (const image of trouble.images) {
        world.update(specOf(image, asked.size, asked.update));
        world.run(asked.atMs);
        last = image;
      }
      return last;
    }
  }
}

interface Asked {
  image: string;
  /** How the new tasks of the slots behave, in turn, where it is not as their image says. */
  mixture: Behaviour[] | undefined;
  /** Of a global service as many as there are nodes. */
  size: number | "global";
  update: UpdateConfig;
  /** When the trouble comes, after the update. */
  atMs: number;
  trouble: Trouble;
  leadersDie: boolean;
  seed: number;
}

const asked: fc.Arbitrary<Asked> = fc.record({
  image: fc.constantFrom(...kinds),
  mixture: fc.option(fc.array(fc.constantFrom(...kinds), { minLength: 2, maxLength: 4 }), { nil: undefined }),
  size: fc.oneof(fc.integer({ min: 1, max: 6 }), fc.constant("global" as const)),
  update: updates,
  atMs: fc.constantFrom(0, 250, 1000, 3000, 9000, 30_000),
  trouble: troubles,
  leadersDie: fc.boolean(),
  seed: fc.integer(),
});

/** Whether a task of the image is sure to fail while it is watched. */
function isSureToFail(image: string, { monitorMs, minHealthyTimeMs }: UpdateConfig): boolean {
  const watchedMs = Math.max(monitorMs, minHealthyTimeMs);
  if (image === "crash-loops") return watchedMs > 1500;
  if (image === "sickens") return watchedMs > 3500;
  if (image === "flaps") return minHealthyTimeMs > 1000;
  return image !== "one" && image !== "good";
}

test(
  "a rollout ends as its failure action says, within its deadlines, and leaves enough available throughout",
  () => {
    fc.assert(
      fc.property(asked, (wish) => {
        const { image, size, update, atMs, trouble, leadersDie, seed } = wish;
        const world = new ServiceWorld(specOf("one", size, update), { seed, images, leadersDie });
        expect(world.run(60_000, () => world.converged())).toBe(true);
        world.check = checkAll(world);
        const { mixture } = wish;
        if (mixture !== undefined)
          world.behaviourOf = (task) => (task.revision === 2 ? mixture[task.slot % mixture.length] : undefined);
        world.update(specOf(image, size, update));
        world.run(atMs);
        const last = cause(world, trouble, wish);
        const rollout = world.rollout;
        expect(world.run(2 * longestMs(8, update), () => isOver(world))).toBe(true);
        const ended = world.rollout;
        if (rollout === undefined || ended === undefined) throw new Error("the update began no rollout");
        assertEnd(world, last, wish, ended);
      }),
      runs(60),
    );
  },
  propertyTimeoutMs,
);

function assertEnd(world: ServiceWorld, image: string, { update, trouble, mixture }: Asked, ended: Rollout): void {
  const failsAlways = isSureToFail(image, update);
  const calm = trouble.kind === "none" || trouble.kind === "scale";
  if (ended.isRollback) {
    expect(update.failureAction).toBe(FailureAction.ROLLBACK);
    // With trouble beside it the way back may fail, too; then it waits for a user.
    expect(calm ? [RolloutState.COMPLETED] : [RolloutState.COMPLETED, RolloutState.PAUSED]).toContain(ended.state);
    expect([...world.rollouts.values()].some(({ state }) => state === RolloutState.ROLLED_BACK)).toBe(true);
    if (ended.state === RolloutState.COMPLETED && calm) expect(imagesOf(world)).toEqual(["one"]);
    return;
  }
  expect([RolloutState.COMPLETED, RolloutState.PAUSED]).toContain(ended.state);
  const isPlain = calm && mixture === undefined;
  if (isPlain && image === "good") expect(ended).toMatchObject({ state: RolloutState.COMPLETED, message: "" });
  if (isPlain && failsAlways && update.failureAction !== FailureAction.CONTINUE && update.maxFailureRatio === 0) {
    expect(ended.state).toBe(RolloutState.PAUSED);
    expect(ended.message).toMatch(/^(slot \d+|\d+ of \d+ slots failed; slot \d+): /);
    expect(update.failureAction).toBe(FailureAction.PAUSE);
  }
  if (ended.state === RolloutState.PAUSED && update.failureAction === FailureAction.CONTINUE)
    expect(ended.message).toMatch(/^no progress for /);
}

function imagesOf(world: ServiceWorld): string[] {
  return [...new Set(world.ready().map((task) => world.imageOf(task)))];
}
