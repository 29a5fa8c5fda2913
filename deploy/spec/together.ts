// Parts of a spec that are right alone and cannot be had together: what a mode has no use for is refused, so that
// nothing is left undone in silence.

import { type PortSpec, PublishMode, type ServiceSpec, type UpdateConfig, UpdateOrder } from "../../proto/mod.js";
import { describeUpdate } from "./describe.js";
import { isGlobal, isJob, modeWord } from "./mode.js";
import { Problems } from "./problems.js";
import { checkUpdate } from "./update.js";

export function checkTogether(spec: ServiceSpec, problems: Problems): void {
  if (isJob(spec)) {
    checkJobPorts(spec, problems);
    checkJobUpdate("update", spec, problems);
    checkJobUpdate("rollback", spec, problems);
  }
  if (isGlobal(spec)) checkGlobalPlacement(spec, problems);
  if (spec.mode.$case === "global")
    for (const field of ["update", "rollback"] as const) checkHostPorts(field, spec, problems);
}

/** Requests go to ready tasks, and a job's tasks are never ready; a port of the host is the engine's to serve. */
function checkJobPorts({ ports, mode }: ServiceSpec, problems: Problems): void {
  for (const [i, port] of ports.entries())
    if (port.mode !== PublishMode.HOST)
      problems.add(
        `ports[${i}].mode`,
        "ingress",
        `must be host in mode ${modeWord(mode)}: a job's tasks are sent no requests`,
        "leave the port out, or publish it with mode=host",
      );
}

const defaults: UpdateConfig = checkUpdate("update", undefined, new Problems());

function checkJobUpdate(field: "update" | "rollback", spec: ServiceSpec, problems: Problems): void {
  const usual = new Map(describeUpdate(field, defaults).map((line) => [line.field, line.text]));
  for (const { field: name, text } of describeUpdate(field, spec[field]))
    if (usual.get(name) !== text)
      problems.add(
        name,
        text,
        `must not be set in mode ${modeWord(spec.mode)}: a new revision begins a new run`,
        "leave it out",
      );
}

/** Each node has its one task: there is nothing to choose. */
function checkGlobalPlacement({ task: { placement }, mode }: ServiceSpec, problems: Problems): void {
  const refuse = (field: string, value: string | number) =>
    problems.add(
      field,
      value,
      `must not be set in mode ${modeWord(mode)}, which has one task on each node`,
      "leave it out",
    );
  if (placement.maxReplicasPerNode > 1) refuse("max_replicas_per_node", placement.maxReplicasPerNode);
  for (const [i, text] of placement.preferences.entries()) refuse(`preferences[${i}]`, text);
}

/** The old task has the host's port until it stops, and a global service's new one runs on the same host. */
function checkHostPorts(field: "update" | "rollback", spec: ServiceSpec, problems: Problems): void {
  const i = spec.ports.findIndex((port: PortSpec) => port.mode === PublishMode.HOST);
  if (i < 0 || spec[field].order !== UpdateOrder.START_FIRST) return;
  problems.add(
    `${field}.order`,
    "start-first",
    `must be stop-first for a global service with ports[${i}] in mode host: old and new task cannot both have it`,
    "use stop-first, or publish the port with mode=ingress",
  );
}
