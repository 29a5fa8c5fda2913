// Flags of where a service's tasks run.

import { PlacementStrategy } from "../../proto/gen/flotilla/objects/v1/objects.js";
import * as as from "./parsers.js";
import { affinity, genericResource, isAffinity, preference, sameExpression } from "./placement.js";
import { type ServiceFlag, many, one, removeFrom } from "./service-flag.js";

const group = "Where it runs:";

/** Also of the cluster, which has no default to leave it to. */
export const strategies = { spread: PlacementStrategy.SPREAD, binpack: PlacementStrategy.BINPACK } as const;
const strategiesOrDefault = { ...strategies, default: PlacementStrategy.UNSPECIFIED } as const;

function resource(kind: "reserve" | "limit", of: "reservations" | "limits", words: string): ServiceFlag[] {
  return [
    one(group, { long: `${kind}-cpu`, value: "CORES", help: `cores ${words}` }, as.cpus, (spec, value) => {
      spec.task[of].nanoCpus = value;
    }),
    one(group, { long: `${kind}-memory`, value: "SIZE", help: `memory ${words}` }, as.bytes, (spec, value) => {
      spec.task[of].memoryBytes = value;
    }),
  ];
}

function affinities(kind: "affinity" | "anti-affinity", help: string): ServiceFlag[] {
  return many(
    group,
    { long: kind, value: "EXPRESSION", help },
    () => affinity(kind),
    { value: "EXPRESSION", parse: as.nonEmpty },
    {
      add: (spec, value, replace) => {
        const list = spec.task.placement.affinities;
        if (replace)
          removeFrom(
            list,
            (other) =>
              sameExpression(other.expression, value.expression) &&
              other.required === value.required &&
              Math.sign(other.weight) === Math.sign(value.weight),
          );
        list.push(value);
      },
      remove: (spec, key) => removeFrom(spec.task.placement.affinities, isAffinity(kind, key)),
    },
  );
}

export const placementFlags: readonly ServiceFlag[] = [
  ...many(
    group,
    { long: "constraint", value: "EXPRESSION", help: "node.labels.zone==eu, node.hostname!=h1" },
    () => as.nonEmpty,
    { value: "EXPRESSION", parse: as.nonEmpty },
    {
      add: (spec, value) => {
        const { constraints } = spec.task.placement;
        if (!constraints.includes(value)) constraints.push(value);
      },
      remove: (spec, key) => removeFrom(spec.task.placement.constraints, (other) => sameExpression(other, key)),
    },
  ),
  ...many(
    group,
    { long: "placement-pref", value: "PREFERENCE", help: "spread=node.labels.zone: evenly over its values" },
    () => preference,
    { value: "PREFERENCE", parse: preference },
    {
      add: (spec, value) => {
        const { preferences } = spec.task.placement;
        if (!preferences.includes(value)) preferences.push(value);
      },
      remove: (spec, key) => removeFrom(spec.task.placement.preferences, (other) => sameExpression(other, key)),
    },
  ),
  ...affinities("affinity", "rather there: node.labels.disk==ssd, service==db; then ,weight=N or ,required"),
  ...affinities("anti-affinity", "rather not there, in the same words"),
  one(
    group,
    {
      long: "placement-strategy",
      value: "STRATEGY",
      help: "spread, binpack, or default for the cluster's own",
      complete: Object.keys(strategiesOrDefault),
    },
    as.oneOf<PlacementStrategy>(strategiesOrDefault),
    (spec, value) => {
      spec.task.placement.strategy = value;
    },
  ),
  one(
    group,
    { long: "replicas-max-per-node", value: "N", help: "most tasks on one node, 0 for no limit" },
    as.uint32("1"),
    (spec, value) => {
      spec.task.placement.maxReplicasPerNode = value;
    },
  ),
  one(
    group,
    { long: "priority", value: "N", help: "placed before lower ones, -1000 to 1000 (default 0)" },
    as.integer(-1000, 1000, "100"),
    (spec, value) => {
      spec.task.priority = value;
    },
  ),
  ...resource("reserve", "reservations", "kept for each task"),
  ...resource("limit", "limits", "a task may use at most"),
  ...many(
    group,
    { long: "generic-resource", value: "NAME=N", help: "countable things of the node, kept for each task: gpu=2" },
    () => genericResource,
    { value: "NAME", parse: as.nonEmpty },
    {
      add: (spec, [name, amount]) => {
        spec.task.reservations.generic[name] = amount;
      },
      remove: (spec, key) => {
        const { generic } = spec.task.reservations;
        const found = Object.hasOwn(generic, key);
        delete generic[key];
        return found;
      },
    },
  ),
];
