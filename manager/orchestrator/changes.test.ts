import { expect, test } from "vitest";
import { ClusterError, seededRng } from "../../lib/mod.js";
import { type Rollout, RolloutState, type ServiceSpec } from "../../proto/mod.js";
import { makeRevision, makeService, makeSpec } from "../../test/kit/objects.js";
import { abortRollout, pauseRollout, resumeRollout, rollbackService, type ServiceParts } from "../rollout/mod.js";
import { createService, removeService, runService, scaleService, updateService } from "./changes.js";

const rng = seededRng(1);
const making = { now: 1000, id: () => rng.id() };
const spec = makeSpec({ replicas: 3 });

function partsWith(changes: Partial<ServiceParts> = {}): ServiceParts {
  const service = { ...makeService({ spec }), meta: { ...makeService().meta, version: 7 } };
  return { service, revisions: [makeRevision(service)], rollout: undefined, ...changes };
}

function refusal(act: () => unknown): ClusterError {
  try {
    act();
  } catch (thrown) {
    if (thrown instanceof ClusterError) return thrown;
    throw thrown;
  }
  throw new Error("it was not refused");
}

const update = (changes: Partial<{ spec: ServiceSpec; version: number; force: boolean; requestId: string }>) => ({
  spec,
  version: 0,
  force: false,
  requestId: "",
  ...changes,
});

test("a new service comes with its first revision", () => {
  const change = createService({ spec, vip: "10.127.0.9", requestId: "r", existing: undefined }, making);
  expect(change.steps.map((step) => [step.do, step.table])).toEqual([
    ["create", "services"],
    ["create", "revisions"],
  ]);
  expect(change.service).toMatchObject({ revision: 1, vip: "10.127.0.9", rolloutId: "", removing: false, spec });
});

test("the same creation sent twice is done once; another one of the same name is refused", () => {
  const existing = partsWith();
  const revisions = [{ ...makeRevision(existing.service), requestId: "r" }];
  const again = createService({ spec, vip: "", requestId: "r", existing: { ...existing, revisions } }, making);
  expect(again).toMatchObject({ service: existing.service, steps: [] });
  const error = refusal(() => createService({ spec, vip: "", requestId: "other", existing }, making));
  expect(error.code).toBe("already_exists");
  expect(error.violations[0]).toMatchObject({ field: "name", value: "web" });
});

test("an update writes a revision and, when tasks must change, a rollout", () => {
  const change = updateService(partsWith(), update({ spec: makeSpec({ image: "two", replicas: 3 }) }), making);
  expect(change.steps.map((step) => [step.do, step.table])).toEqual([
    ["create", "revisions"],
    ["create", "rollouts"],
    ["put", "services"],
  ]);
  expect(change.rollout).toMatchObject({ fromRevision: 1, toRevision: 2, state: RolloutState.RUNNING });
  expect(change.service).toMatchObject({ revision: 2, rolloutId: change.rollout?.meta.id });
  const labels = updateService(partsWith(), update({ spec: { ...spec, labels: { a: "b" } } }), making);
  expect(labels.rollout).toBeUndefined();
  expect(labels.service.revision).toBe(2);
});

test("an equal spec, or the same request again, changes nothing; forced it does", () => {
  expect(updateService(partsWith(), update({}), making).steps).toEqual([]);
  expect(updateService(partsWith(), update({ force: true }), making).rollout).toBeDefined();
  const service = makeService({ spec });
  const revisions = [{ ...makeRevision(service), requestId: "r" }];
  const other = makeSpec({ image: "two" });
  expect(updateService(partsWith({ revisions }), update({ spec: other, requestId: "r" }), making).steps).toEqual([]);
  expect(scaleService(partsWith({ revisions }), { replicas: 9, requestId: "r" }, making).steps).toEqual([]);
});

test("updates from an old version, renamings and changes of what is being removed are refused", () => {
  expect(refusal(() => updateService(partsWith(), update({ version: 6 }), making)).code).toBe("conflict");
  expect(updateService(partsWith(), update({ version: 7 }), making).steps).toEqual([]);
  const renamed = refusal(() => updateService(partsWith(), update({ spec: { ...spec, name: "new" } }), making));
  expect(renamed.violations[0]).toMatchObject({ field: "name", value: "new" });
  const parts = partsWith({ service: makeService({ spec, removing: true }) });
  for (const act of [
    () => updateService(parts, update({}), making),
    () => scaleService(parts, { replicas: 1, requestId: "" }, making),
    () => rollbackService(parts, { toRevision: 0, requestId: "" }, making),
    () => createService({ spec, vip: "", requestId: "", existing: parts }, making),
  ])
    expect(refusal(act)).toMatchObject({
      code: "failed_precondition",
      message: expect.stringMatching(/being removed/),
    });
});

test("scaling changes the number and nothing else, within bounds", () => {
  const change = scaleService(partsWith(), { replicas: 5, requestId: "" }, making);
  expect(change.service.spec).toEqual(makeSpec({ replicas: 5 }));
  expect(change.rollout).toBeUndefined();
  expect(change.steps[0]).toMatchObject({ object: { cause: "scaled to 5" } });
  expect(scaleService(partsWith(), { replicas: 3, requestId: "" }, making).steps).toEqual([]);
  expect(
    refusal(() => scaleService(partsWith(), { replicas: 10_001, requestId: "" }, making)).violations[0],
  ).toMatchObject({ field: "replicas", value: "10001" });
});

test("a rollback goes to the newest revision with other tasks, or to the one named", () => {
  const service = makeService({ spec: { ...spec, labels: { a: "b" } }, revision: 3 });
  const revisions = [
    makeRevision(service, 1, makeSpec({ image: "old", replicas: 3 })),
    makeRevision(service, 2, spec),
    makeRevision(service, 3, { ...spec, labels: { a: "b" } }),
  ];
  const parts = partsWith({ service, revisions });
  const change = rollbackService(parts, { toRevision: 0, requestId: "" }, making);
  expect(change.service.spec.task.container.image).toBe("old");
  expect(change.rollout).toMatchObject({ isRollback: true, fromRevision: 3, toRevision: 4 });
  const labels = rollbackService(parts, { toRevision: 2, requestId: "" }, making);
  expect(labels.rollout).toBeUndefined();
  expect(labels.service.spec.labels).toEqual({});
  expect(rollbackService(parts, { toRevision: 3, requestId: "" }, making).steps).toEqual([]);
  const missing = refusal(() => rollbackService(parts, { toRevision: 9, requestId: "" }, making));
  expect(missing).toMatchObject({
    code: "not_found",
    violations: [{ field: "to_revision", fix: "use one of 1, 2, 3" }],
  });
  expect(refusal(() => rollbackService(partsWith(), { toRevision: 0, requestId: "" }, making)).message).toMatch(
    /no earlier revision with other tasks/,
  );
});

test("pausing, resuming and aborting need a rollout under way, and say what there is instead", () => {
  const started = updateService(partsWith(), update({ spec: makeSpec({ image: "two", replicas: 3 }) }), making);
  const rollout = started.rollout as Rollout;
  const revisions = [...partsWith().revisions, makeRevision(started.service, 2)];
  const parts: ServiceParts = { service: started.service, revisions, rollout };
  const paused = pauseRollout(parts, making);
  expect(paused.rollout?.state).toBe(RolloutState.PAUSED);
  expect(resumeRollout(parts, making).steps).toEqual([]);
  expect(pauseRollout({ ...parts, rollout: paused.rollout }, making).steps).toEqual([]);
  expect(resumeRollout({ ...parts, rollout: paused.rollout }, making).rollout?.state).toBe(RolloutState.RUNNING);
  const aborted = abortRollout(parts, "r", making);
  expect(aborted.steps[0]).toMatchObject({
    table: "rollouts",
    object: { state: RolloutState.ABORTED, rolledBackBy: aborted.rollout?.meta.id },
  });
  const rollback: ServiceParts = { service: aborted.service, revisions, rollout: aborted.rollout };
  expect(refusal(() => abortRollout(rollback, "", making)).message).toMatch(/itself a rollback/);
  expect(refusal(() => pauseRollout(partsWith(), making)).message).toMatch(/there has been none/);
  const over = { ...rollout, state: RolloutState.COMPLETED };
  expect(refusal(() => resumeRollout({ ...parts, rollout: over }, making)).message).toMatch(/is completed/);
});

test("removing marks the service once", () => {
  const change = removeService(partsWith().service, making);
  expect(change.service.removing).toBe(true);
  expect(removeService(change.service, making).steps).toEqual([]);
});

const jobSpec = (mode: ServiceSpec["mode"]): ServiceSpec => ({ ...spec, mode });
const replicatedJob = jobSpec({ $case: "replicatedJob", value: { completions: 3 } });

test.each<[string, ServiceSpec["mode"], RegExp]>([
  ["global", { $case: "global", value: {} }, /one task per node/],
  ["global-job", { $case: "globalJob", value: {} }, /once per node/],
  ["replicated-job", { $case: "replicatedJob", value: {} }, /--completions 5 web/],
])("scaling what has no replicas is refused with what to do instead: %s", (word, mode, fix) => {
  const service = makeService({ spec: jobSpec(mode) });
  const error = refusal(() =>
    scaleService(
      { ...partsWith(), service, revisions: [makeRevision(service)] },
      { replicas: 5, requestId: "" },
      making,
    ),
  );
  expect(error.violations).toMatchObject([
    { field: "replicas", value: "5", rule: `must be given to replicated services only, and web is ${word}` },
  ]);
  expect(error.violations[0]?.fix).toMatch(fix);
});

test("scaling outside of the bounds of automatic scaling is refused; the scaler says why it scales", () => {
  const service = makeService({ spec: { ...spec, autoscale: { min: 2, max: 6, cpuPercent: 60 } } });
  const parts = { ...partsWith(), service, revisions: [makeRevision(service)] };
  for (const replicas of [1, 7]) {
    const error = refusal(() => scaleService(parts, { replicas, requestId: "" }, making));
    expect(error.violations).toMatchObject([{ field: "replicas", value: String(replicas) }]);
  }
  const cause = "autoscaled from 3 to 5: cpu 92 % of 60 %";
  const { steps } = scaleService(parts, { replicas: 5, requestId: "", cause }, making);
  expect(steps[0]).toMatchObject({ do: "create", table: "revisions", object: { cause } });
});

test("a service's mode cannot be changed", () => {
  const global = jobSpec({ $case: "global", value: {} });
  expect(refusal(() => updateService(partsWith(), update({ spec: global }), making)).violations).toEqual([
    {
      field: "mode",
      value: "global",
      rule: "must stay replicated: a service's mode cannot be changed",
      fix: "leave it replicated, or remove web and create it again as global",
    },
  ]);
});

test("an update of a job writes a revision and no rollout: its tasks are a new run's", () => {
  const service = makeService({ spec: replicatedJob });
  const next = { ...replicatedJob, task: makeSpec({ image: "two" }).task };
  const change = updateService(
    { ...partsWith(), service, revisions: [makeRevision(service)] },
    update({ spec: next }),
    making,
  );
  expect(change.steps.map((step) => [step.do, step.table])).toEqual([
    ["create", "revisions"],
    ["put", "services"],
  ]);
});

test("a run is asked for once per request, of jobs only, and ten wait at most", () => {
  let service = makeService({ spec: replicatedJob });
  const ask = (requestId: string) => {
    const change = runService({ service }, { requestId }, making);
    service = change.service;
    return change.steps.length;
  };
  expect([ask("a"), ask("a"), ask("b")]).toEqual([1, 0, 1]);
  for (let i = 0; i < 8; i += 1) ask("");
  expect(service.job?.requested.length).toBe(10);
  expect(new Set(service.job?.requested).size).toBe(10);
  expect(refusal(() => ask("c")).code).toBe("resource_exhausted");
  expect(ask("a")).toBe(0);
  expect(refusal(() => runService(partsWith(), { requestId: "" }, making)).message).toMatch(
    /^service web is replicated and runs all the time, only jobs have runs/,
  );
  service = { ...service, removing: true };
  expect(refusal(() => ask("d")).code).toBe("failed_precondition");
});
