// Services as `ls` and `inspect --pretty` show them.

import { formatBytes, formatDurationMs, formatNanoCpus } from "../../lib/units.js";
import type { ServiceState } from "../../proto/gen/flotilla/control/v1/control.js";
import type { PortSpec, Resources, UpdateConfig } from "../../proto/gen/flotilla/objects/v1/objects.js";
import type { Column } from "./table.js";
import { shortId } from "./task.js";
import { plain } from "./text.js";
import { ago } from "./time.js";
import * as words from "./words.js";

export function portWords({ publishedPort, targetPort, name }: PortSpec): string {
  const target = `${targetPort}/tcp`;
  return `${publishedPort === 0 ? "" : `*:${publishedPort}->`}${target}${name === "" ? "" : ` (${name})`}`;
}

const specOf = (state: ServiceState) => state.service?.spec;

export function serviceColumns(trunc: boolean): Column<ServiceState>[] {
  return [
    { key: "ID", header: "ID", get: ({ service }) => shortId(service?.meta?.id ?? "", trunc) },
    { key: "Name", header: "NAME", get: (state) => specOf(state)?.name ?? "" },
    { key: "Mode", header: "MODE", get: () => "replicated" },
    { key: "Replicas", header: "REPLICAS", get: (state) => replicasWords(state) },
    { key: "Image", header: "IMAGE", get: (state) => specOf(state)?.task?.container?.image ?? "" },
    {
      key: "Ports",
      header: "PORTS",
      get: (state) =>
        (specOf(state)?.ports ?? [])
          .filter(({ publishedPort }) => publishedPort !== 0)
          .map(portWords)
          .join(","),
    },
    { key: "Revision", header: "REVISION", get: ({ service }) => String(service?.revision ?? 0), hidden: true },
    { key: "VIP", header: "VIP", get: ({ service }) => service?.vip ?? "", hidden: true },
    {
      key: "Rollout",
      header: "ROLLOUT",
      get: ({ rollout }) => (rollout === undefined ? "" : words.rolloutState(rollout.state)),
      hidden: true,
    },
  ];
}

function replicasWords({ service, replicasRunning, replicasDesired }: ServiceState): string {
  const perNode = service?.spec?.task?.placement?.maxReplicasPerNode ?? 0;
  return `${replicasRunning}/${replicasDesired}${service?.removing === true ? " (removing)" : ""}${perNode > 0 ? ` (max ${perNode} per node)` : ""}`;
}

function resources(of: Resources | undefined): string {
  const parts = [
    ...(of === undefined || of.nanoCpus === 0 ? [] : [`${formatNanoCpus(of.nanoCpus)} cores`]),
    ...(of === undefined || of.memoryBytes === 0 ? [] : [formatBytes(of.memoryBytes)]),
  ];
  return parts.join(", ");
}

function update(config: UpdateConfig | undefined): string {
  if (config === undefined) return "";
  const ms = (value: number | undefined) => (value === undefined ? "" : formatDurationMs(value));
  return [
    ["parallelism", config.parallelism === undefined ? "" : String(config.parallelism)],
    ["delay", ms(config.delayMs)],
    ["order", config.order === 0 ? "" : words.updateOrder(config.order)],
    ["monitor", ms(config.monitorMs)],
    ["on failure", config.failureAction === 0 ? "" : words.failureAction(config.failureAction)],
    ["max failure ratio", config.maxFailureRatio === undefined ? "" : String(config.maxFailureRatio)],
    ["min healthy time", ms(config.minHealthyTimeMs)],
    ["progress deadline", ms(config.progressDeadlineMs)],
  ]
    .filter(([, value]) => value !== "")
    .map(([key, value]) => `${key} ${value}`)
    .join(", ");
}

function map(of: Readonly<Record<string, string>> | undefined): string {
  return Object.entries(of ?? {})
    .map(([key, value]) => `${key}=${value}`)
    .join(", ");
}

/** `inspect --pretty`: a line per thing that is set. */
export function servicePretty(state: ServiceState, nowMs: number): string {
  const { service, rollout } = state;
  const spec = service?.spec;
  const container = spec?.task?.container;
  const restart = spec?.task?.restart;
  const rows: [string, string][] = [
    ["ID", service?.meta?.id ?? ""],
    ["Name", spec?.name ?? ""],
    ["Revision", `${service?.revision ?? 0}, ${ago(service?.meta?.updatedAtMs ?? 0, nowMs)}`],
    ["Replicas", replicasWords(state)],
    ["Address", service?.vip ?? ""],
    ["Image", container?.image ?? ""],
    ["Entrypoint", (container?.command ?? []).join(" ")],
    ["Args", (container?.args ?? []).join(" ")],
    ["Env", (container?.env ?? []).join(", ")],
    ["Labels", map(spec?.labels)],
    ["Container labels", map(container?.labels)],
    [
      "Mounts",
      (container?.mounts ?? [])
        .map((m) => `${words.mountType(m.type)} ${m.source}→${m.target}${m.readOnly ? " (ro)" : ""}`)
        .join(", "),
    ],
    ["Ports", (spec?.ports ?? []).map(portWords).join(", ")],
    ["Constraints", (spec?.task?.placement?.constraints ?? []).join(", ")],
    ["Reserved", resources(spec?.task?.reservations)],
    ["Limits", resources(spec?.task?.limits)],
    ["Restart", restart === undefined || restart.condition === 0 ? "" : words.restartCondition(restart.condition)],
    ["Update", update(spec?.update)],
    ["Rollback", update(spec?.rollback)],
    [
      "Rollout",
      rollout === undefined
        ? ""
        : `${rollout.fromRevision} → ${rollout.toRevision}: ${words.rolloutState(rollout.state)}${rollout.message === "" ? "" : ` (${rollout.message})`}`,
    ],
  ];
  const shown = rows.filter(([, value]) => value !== "");
  const width = Math.max(...shown.map(([key]) => key.length)) + 2;
  const revisions = [...state.revisions]
    .sort((a, b) => b.number - a.number)
    .slice(0, 10)
    .map(
      (r) =>
        `  ${r.number}  ${ago(r.meta?.createdAtMs ?? 0, nowMs)}  ${plain(r.spec?.task?.container?.image ?? "")}  ${plain(r.cause)}\n`,
    );
  return (
    shown.map(([key, value]) => `${`${key}:`.padEnd(width)}${plain(value)}\n`).join("") +
    (revisions.length === 0 ? "" : `Revisions:\n${revisions.join("")}`)
  );
}
