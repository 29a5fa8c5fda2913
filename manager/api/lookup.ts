// Names that users write, as objects: a service by its name, its id, or a unique prefix of its id; a node by its host
// name likewise. What is not found gets the nearest name there is.

import { closest } from "../../deploy/spec/mod.js";
import { ClusterError } from "../../lib/mod.js";
import { newestFirst } from "../../deploy/strategy/mod.js";
import type { Node, Service, Task } from "../../proto/mod.js";
import type { View } from "../store/mod.js";

/** Ids are long and random: fewer characters would find what was not meant. */
const prefixCharsMin = 4;

export function findService(view: View, wanted: string): Service {
  const exact = view.serviceByName(wanted) ?? view.services.get(wanted);
  if (exact !== undefined) return exact;
  return byPrefix("service", wanted, view.services.values(), ({ spec }) => spec.name, "flotilla service ls");
}

export function findNode(view: View, wanted: string): Node {
  const exact = view.nodes.get(wanted);
  if (exact !== undefined) return exact;
  const named = [...view.nodes.values()].filter(({ description }) => description.hostname === wanted);
  const [only] = named;
  if (only !== undefined && named.length === 1) return only;
  if (named.length > 1)
    throw new ClusterError(
      "invalid_argument",
      `node ${JSON.stringify(wanted)} is the name of ${named.length} nodes; give the id: ${named.map(({ meta }) => meta.id).join(", ")}`,
    );
  return byPrefix("node", wanted, view.nodes.values(), ({ description }) => description.hostname, "flotilla node ls");
}

/** By its id, a unique prefix of it, or SERVICE.SLOT: then the newest of that slot, of a job's newest run. */
export function findTask(view: View, wanted: string): Task {
  const exact = view.tasks.get(wanted);
  if (exact !== undefined) return exact;
  const slot = /^(.+)\.([1-9]\d{0,9})$/.exec(wanted);
  if (slot !== null) return newestOfSlot(view, findService(view, slot[1] ?? ""), Number(slot[2]));
  const named = view.serviceByName(wanted);
  if (named !== undefined) return newestOfSlot(view, named, undefined);
  return byPrefix(
    "task",
    wanted,
    view.tasks.values(),
    ({ serviceName, slot: number }) => `${serviceName}.${number}`,
    "flotilla task ls",
  );
}

/** Without a slot, which one is meant must be said where there are several. */
function newestOfSlot(view: View, service: Service, slot: number | undefined): Task {
  const { name } = service.spec;
  const tasks = [...view.tasksOfService(service.meta.id)];
  const slots = [...new Set(tasks.map((task) => task.slot))].sort((a, b) => a - b);
  const listed = `${slots.slice(0, 10).join(", ")}${slots.length > 10 ? " …" : ""}`;
  if (slots.length === 0)
    throw new ClusterError(
      "not_found",
      `service ${name} has no tasks${service.waitingFor === "" ? "" : `: it ${service.waitingFor}`}; see: flotilla service inspect ${name}`,
    );
  if (slot === undefined && slots.length > 1)
    throw new ClusterError(
      "invalid_argument",
      `service ${name} has several tasks; give the slot: ${name}.${slots[0]}; there are ${listed}`,
    );
  const wanted = slot ?? slots[0];
  const [newest] = tasks.filter((task) => task.slot === wanted).sort((a, b) => b.run - a.run || newestFirst(a, b));
  if (newest !== undefined) return newest;
  throw new ClusterError(
    "not_found",
    `service ${name} has no task in slot ${slot}; there are ${listed}; see: flotilla service ps ${name}`,
  );
}

function byPrefix<T extends { meta: { id: string } }>(
  kind: string,
  wanted: string,
  all: Iterable<T>,
  nameOf: (object: T) => string,
  list: string,
): T {
  const objects = [...all];
  if (wanted.length >= prefixCharsMin) {
    const found = objects.filter(({ meta }) => meta.id.startsWith(wanted));
    const [only] = found;
    if (only !== undefined && found.length === 1) return only;
    if (found.length > 1)
      throw new ClusterError(
        "invalid_argument",
        `${kind} ${JSON.stringify(wanted)} is the beginning of ${found.length} ids; give more of it`,
      );
  }
  const near = closest(wanted, objects.map(nameOf));
  throw new ClusterError(
    "not_found",
    `no ${kind} ${JSON.stringify(wanted)}; ${near === undefined ? "" : `did you mean ${near}? `}see: ${list}`,
  );
}
