// Random services, updates and trouble for property tests.

import * as fc from "fast-check";
import { budgetOf } from "../../deploy/strategy/mod.js";
import { FailureAction, type ServiceSpec, type UpdateConfig, UpdateOrder } from "../../proto/mod.js";
import { makeSpec } from "./objects.js";

/** Runs of a property: short by default; FLOTILLA_TEST_RUNS=20 makes every one of them twenty times as long. */
export function runs(count: number): { numRuns: number } {
  const given = process.env["FLOTILLA_TEST_RUNS"] ?? "1";
  const times = Number(given);
  if (!(times >= 1)) throw new Error(`FLOTILLA_TEST_RUNS is ${given}; it must be a number of at least 1`);
  return { numRuns: Math.round(count * times) };
}

/** Within the time that a test with one property has. */
export const propertyTimeoutMs = 120_000 * Number(process.env["FLOTILLA_TEST_RUNS"] ?? "1");

/** Every knob of an update; one that could begin nothing (no surge, nothing unavailable) is refused at the API. */
export const updates: fc.Arbitrary<UpdateConfig> = fc
  .record({
    parallelism: fc.integer({ min: 0, max: 4 }),
    delayMs: fc.constantFrom(0, 0, 2000),
    order: fc.constantFrom(UpdateOrder.STOP_FIRST, UpdateOrder.START_FIRST),
    monitorMs: fc.constantFrom(0, 1000, 5000),
    failureAction: fc.constantFrom(FailureAction.PAUSE, FailureAction.CONTINUE, FailureAction.ROLLBACK),
    maxFailureRatio: fc.constantFrom(0, 0.4),
    minHealthyTimeMs: fc.constantFrom(0, 1500),
    progressDeadlineMs: fc.constantFrom(10_000, 60_000),
    maxSurge: fc.option(fc.integer({ min: 0, max: 3 }), { nil: undefined }),
    maxUnavailable: fc.option(fc.integer({ min: 0, max: 3 }), { nil: undefined }),
  })
  .filter((config) => budgetOf(config).maxSurge + budgetOf(config).maxUnavailable > 0);

/** A spec of one image with an update's settings, the same for its rollback; without a number of replicas, global. */
export function specOf(image: string, replicas: number | "global", update: UpdateConfig): ServiceSpec {
  const spec = makeSpec({ image, replicas: replicas === "global" ? 0 : replicas });
  return {
    ...spec,
    mode: replicas === "global" ? { $case: "global", value: {} } : spec.mode,
    update,
    rollback: { ...update, failureAction: FailureAction.PAUSE },
  };
}
