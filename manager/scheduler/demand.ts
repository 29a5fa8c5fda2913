// What a group of equal tasks asks of nodes, read once from its revision.

import {
  type AffinityRule,
  type Constraint,
  parseAffinity,
  parseConstraint,
  parsePreference,
  type Preference,
} from "../../deploy/spec/mod.js";
import {
  MountType,
  type PlacementStrategy,
  type PortSpec,
  PublishMode,
  type Resources,
  type TaskSpec,
} from "../../proto/mod.js";
import type { Claims } from "./usage.js";

export interface Demand extends Claims {
  reserved: Resources;
  /** Countable things by name, those of which none is asked for left out. */
  generic: readonly (readonly [string, number])[];
  constraints: readonly Constraint[];
  maxPerNode: number;
  /** All but the engine's own. */
  volumeDrivers: readonly string[];
  /** Affinities that must hold. */
  required: readonly AffinityRule[];
  weighted: readonly { rule: AffinityRule; weight: number }[];
  /** Outermost first. */
  preferences: readonly Preference[];
  /** UNSPECIFIED is the cluster's. */
  strategy: PlacementStrategy;
  priority: number;
}

const known = new WeakMap<TaskSpec, { ports: readonly PortSpec[]; demand: Demand }>();
const noPorts: readonly PortSpec[] = [];

/** Specs are never changed in place, so that each is read once. */
export function demandOf(spec: TaskSpec, ports: readonly PortSpec[] = noPorts): Demand {
  const before = known.get(spec);
  if (before?.ports === ports) return before.demand;
  const demand = read(spec, ports);
  known.set(spec, { ports, demand });
  return demand;
}

function read({ reservations, placement, container, priority }: TaskSpec, ports: readonly PortSpec[]): Demand {
  const required: AffinityRule[] = [];
  const weighted: { rule: AffinityRule; weight: number }[] = [];
  for (const affinity of placement.affinities) {
    const rule = affinityOf(affinity.expression);
    if (affinity.required) required.push(rule);
    else weighted.push({ rule, weight: affinity.weight });
  }
  const drivers = container.mounts.flatMap(({ type, volumeDriver }) =>
    type === MountType.VOLUME && volumeDriver !== "" ? [volumeDriver] : [],
  );
  return {
    reserved: reservations,
    generic: Object.entries(reservations.generic).filter(([, amount]) => amount > 0),
    constraints: placement.constraints.map(constraintOf),
    maxPerNode: placement.maxReplicasPerNode,
    hostPorts: hostPortsOf(ports),
    volumeDrivers: [...new Set(drivers)],
    required,
    image: container.image,
    avoids: required.flatMap((rule) => (rule.kind === "service" && !rule.has ? [rule.name] : [])),
    weighted,
    preferences: placement.preferences.map(preferenceOf),
    strategy: placement.strategy,
    priority,
  };
}

/** "8080/1": published port and protocol. A port that the engine chooses is in nobody's way. */
function hostPortsOf(ports: readonly PortSpec[]): string[] {
  return ports.flatMap(({ mode, publishedPort, protocol }) =>
    mode === PublishMode.HOST && publishedPort > 0 ? [`${publishedPort}/${protocol}`] : [],
  );
}

function constraintOf(text: string): Constraint {
  const parsed = parseConstraint(text);
  if ("rule" in parsed) throw unreadable("constraint", text, parsed.rule);
  return parsed.constraint;
}

function affinityOf(text: string): AffinityRule {
  const parsed = parseAffinity(text);
  if ("rule" in parsed) throw unreadable("affinity", text, parsed.rule);
  return parsed.affinity;
}

function preferenceOf(text: string): Preference {
  const parsed = parsePreference(text);
  if ("rule" in parsed) throw unreadable("preference", text, parsed.rule);
  return parsed.preference;
}

/** Specs are checked before they are stored. */
function unreadable(what: string, text: string, rule: string): Error {
  return new Error(`the stored ${what} ${JSON.stringify(text)} ${rule}`);
}
