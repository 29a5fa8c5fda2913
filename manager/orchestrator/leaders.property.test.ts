// The real controllers on a store, while leaders die after each few of their writes: a new one knows no more than the
// store does, its wakes included. No step is skipped, none is made twice, and the end is the one that was asked for.

import * as fc from "fast-check";
import { expect, test } from "vitest";
import { isConverged } from "../../deploy/strategy/mod.js";
import { seededRng } from "../../lib/mod.js";
import { FailureAction, RolloutState, UpdateOrder } from "../../proto/mod.js";
import { propertyTimeoutMs, runs, specOf } from "../../test/kit/arbitraries.js";
import { makeSpec } from "../../test/kit/objects.js";
import { MortalLeader } from "../../test/kit/mortal-leader.js";
import { applySteps, type ServiceChange, type ServiceParts } from "../rollout/mod.js";
import { createService, updateService } from "./mod.js";

const ends = {
  two: { state: RolloutState.COMPLETED, image: "two" },
  rejects: { state: RolloutState.PAUSED, image: "one" },
  hangs: { state: RolloutState.PAUSED, image: "one" },
} as const;
type Image = keyof typeof ends;

test(
  "leaders die after each of their writes: the rollout ends as with one leader",
  async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom<Image>("two", "rejects", "hangs"),
        fc.constantFrom(UpdateOrder.STOP_FIRST, UpdateOrder.START_FIRST),
        fc.constantFrom(FailureAction.PAUSE, FailureAction.ROLLBACK),
        fc.constantFrom(1, 1, 2, 3),
        fc.constantFrom(3, "global" as const),
        fc.integer(),
        async (image, order, failureAction, writesPerLeader, size, seed) => {
          const rng = seededRng(seed);
          const images = { rejects: "rejects", hangs: "hangs" } as const;
          await using world = await MortalLeader.open({ rng, writesPerLeader, nodes: 3, images });
          const { store, clock } = world;
          const making = () => ({ now: clock.now(), id: () => rng.id() });
          const write = ({ steps }: ServiceChange) => store.update((tx) => applySteps(tx, steps));
          const update = {
            ...makeSpec().update,
            order,
            failureAction,
            delayMs: 2000,
            monitorMs: 1000,
            progressDeadlineMs: 20_000,
          };
          const created = createService(
            { spec: specOf("one", size, update), vip: "10.127.0.1", requestId: "", existing: undefined },
            making(),
          );
          await write(created);
          const { id } = created.service.meta;
          const parts = (): ServiceParts => {
            const view = store.view();
            const service = view.services.get(id);
            if (service === undefined) throw new Error("the service is gone");
            return { service, revisions: view.revisionsOfService(id), rollout: view.rollouts.get(service.rolloutId) };
          };
          const converged = () =>
            isConverged({ ...parts(), tasks: store.view().tasksOfService(id), nodes: store.view().nodes.values() })
              .converged;
          expect(await world.run(30_000, converged)).toBe(true);

          const spec = specOf(image, size, update);
          await write(updateService(parts(), { spec, version: 0, force: false, requestId: "" }, making()));
          const begun = parts().rollout?.meta.id ?? "";
          const isOver = () => (parts().rollout?.state ?? RolloutState.RUNNING) !== RolloutState.RUNNING;
          expect(await world.run(120_000, isOver)).toBe(true);
          expect(world.deaths).toBeGreaterThan(0);

          const undone = image !== "two" && failureAction === FailureAction.ROLLBACK;
          expect(store.view().rollouts.get(begun)?.state).toBe(undone ? RolloutState.ROLLED_BACK : ends[image].state);
          if (undone) expect(parts().rollout).toMatchObject({ isRollback: true, state: RolloutState.COMPLETED });
          if (ends[image].state === RolloutState.COMPLETED || undone) expect(converged()).toBe(true);
          // Each slot's new task was made once.
          const made = [...store.view().tasksOfService(id)].filter(({ revision }) => revision === 2);
          if (image === "two") expect(made.map(({ slot }) => slot).sort((a, b) => a - b)).toEqual([1, 2, 3]);
          // Nor was the rollback begun twice.
          expect([...store.view().rollouts.values()].length).toBe(undone ? 2 : 1);
        },
      ),
      runs(60),
    );
  },
  propertyTimeoutMs,
);
