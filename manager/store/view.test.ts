import * as fc from "fast-check";
import { expect, test } from "vitest";
import { ClusterError } from "../../lib/mod.js";
import type { Revision, Service, Task } from "../../proto/mod.js";
import { sampleRevision, sampleService, sampleTask } from "./samples.js";
import type { Change, View } from "./store.js";
import { Layer } from "./transaction.js";
import { LiveView } from "./view.js";

// The model: plain lists, searched from end to end.
interface Model {
  services: Service[];
  tasks: Task[];
  revisions: Revision[];
}

type Op =
  | { op: "service"; id: string; name: string }
  | { op: "task"; id: string; service: string; node: string }
  | { op: "revision"; id: string; service: string; number: number }
  | { op: "remove"; table: "services" | "tasks" | "revisions"; id: string };

const ids = ["a", "b", "c", "d"];
const id = fc.constantFrom(...ids);
const op: fc.Arbitrary<Op> = fc.oneof(
  fc.record({ op: fc.constant("service" as const), id, name: fc.constantFrom("web", "api", "db") }),
  fc.record({ op: fc.constant("task" as const), id, service: id, node: fc.constantFrom("", "n1", "n2") }),
  fc.record({ op: fc.constant("revision" as const), id, service: id, number: fc.integer({ min: 1, max: 4 }) }),
  fc.record({ op: fc.constant("remove" as const), table: fc.constantFrom("services", "tasks", "revisions"), id }),
);

/** Updates in groups: each inner list is an update, run in a layer over its group's; some throw at their end. */
const history = fc.array(fc.array(fc.record({ ops: fc.array(op, { maxLength: 6 }), fails: fc.boolean() })), {
  maxLength: 6,
});

test("view and layers answer as plain lists do, within updates, within groups and after commits", () => {
  fc.assert(
    fc.property(history, (groups) => {
      const live = new LiveView();
      let committed: Model = { services: [], tasks: [], revisions: [] };
      for (const group of groups) {
        const shared = new Layer(live);
        let grouped = committed;
        for (const update of group) {
          const layer = new Layer(shared);
          let model = grouped;
          for (const step of update.ops) {
            model = applyBoth(layer, model, step);
            expectSame(layer, model);
          }
          if (update.fails) continue;
          for (const write of layer.writes()) shared.absorb(write.table, write.id, write.after);
          grouped = model;
          expectSame(shared, grouped);
        }
        expectSame(live, committed);
        const changes: Change[] = shared.writes().map((write) => live.changeTo(write.table, write.id, write.after));
        live.apply({ revision: live.revision + 1, changes });
        committed = grouped;
        expectSame(live, committed);
      }
    }),
    { numRuns: 100 },
  );
}, 90_000);

/** One step in both; a refusal must be the same refusal. */
function applyBoth(layer: Layer, model: Model, step: Op): Model {
  const expected = inModel(model, step);
  let refusal: string | undefined;
  try {
    inLayer(layer, step);
  } catch (error) {
    if (!(error instanceof ClusterError)) throw error;
    refusal = error.code;
  }
  expect(refusal).toBe(typeof expected === "string" ? expected : undefined);
  return typeof expected === "string" ? model : expected;
}

function inLayer(layer: Layer, step: Op): void {
  if (step.op === "remove") {
    layer.remove(step.table, step.id);
  } else if (step.op === "service") {
    const there = layer.services.get(step.id);
    if (there === undefined) layer.create("services", sampleService(step.id, step.name));
    else layer.put("services", { ...there, spec: { ...there.spec, name: step.name } });
  } else if (step.op === "task") {
    const there = layer.tasks.get(step.id);
    if (there === undefined) layer.create("tasks", sampleTask(step.id, step.service, step.node));
    else layer.put("tasks", { ...there, serviceId: step.service, nodeId: step.node });
  } else {
    const there = layer.revisions.get(step.id);
    if (there === undefined) layer.create("revisions", sampleRevision(step.id, step.service, step.number));
    else layer.put("revisions", { ...there, serviceId: step.service, number: step.number });
  }
}

function inModel(model: Model, step: Op): Model | string {
  const without = <T extends { meta: { id: string } }>(objects: T[]) => objects.filter((o) => o.meta.id !== step.id);
  if (step.op === "remove") {
    const left = { ...model, [step.table]: without<Service | Task | Revision>(model[step.table]) };
    return left[step.table].length === model[step.table].length ? "not_found" : left;
  }
  if (step.op === "service") {
    if (model.services.some((service) => service.spec.name === step.name && service.meta.id !== step.id))
      return "already_exists";
    return { ...model, services: [...without(model.services), sampleService(step.id, step.name)] };
  }
  if (step.op === "task")
    return { ...model, tasks: [...without(model.tasks), sampleTask(step.id, step.service, step.node)] };
  // The model's spec is that of the first service: only what the indexes read is compared.
  return { ...model, revisions: [...without(model.revisions), sampleRevision(step.id, step.service, step.number)] };
}

function expectSame(view: View, model: Model): void {
  expect(view.services.size).toBe(model.services.length);
  expect(view.tasks.size).toBe(model.tasks.length);
  expect(view.revisions.size).toBe(model.revisions.length);
  expect(idsIn(view.services.values())).toEqual(idsIn(model.services));
  expect(idsIn(view.tasks.values())).toEqual(idsIn(model.tasks));
  expect(idsIn(view.revisions.values())).toEqual(idsIn(model.revisions));
  for (const name of ["web", "api", "db"])
    expect(view.serviceByName(name)?.meta.id).toBe(model.services.find((s) => s.spec.name === name)?.meta.id);
  for (const node of ["", "n1", "n2"])
    expect(idsIn(view.tasksOfNode(node))).toEqual(idsIn(model.tasks.filter((task) => task.nodeId === node)));
  for (const service of ids) {
    expect(idsIn(view.tasksOfService(service))).toEqual(idsIn(model.tasks.filter((t) => t.serviceId === service)));
    const numbers = model.revisions.filter((r) => r.serviceId === service).map((r) => r.number);
    expect(view.revisionsOfService(service).map((r) => r.number)).toEqual(numbers.sort((a, b) => a - b));
    for (const number of [1, 2, 3, 4])
      expect(view.revisionOfService(service, number) !== undefined).toBe(numbers.includes(number));
  }
}

function idsIn(objects: Iterable<{ meta: { id: string } }>): string[] {
  return [...objects].map((object) => object.meta.id).sort();
}
