// Services as `ls` and `inspect --pretty` show them.

import { formatBytes, formatDurationMs, formatNanoCpus } from "../../lib/units.js";
import type { ServiceState } from "../../proto/gen/flotilla/control/v1/control.js";
import {
  type Affinity,
  type AutoscaleSpec,
  type PortSpec,
  PublishMode,
  type Resources,
  type Service,
  type ServiceSpec,
  type UpdateConfig,
} from "../../proto/gen/flotilla/objects/v1/objects.js";
import { isJob, runLine, runsWords } from "./job.js";
import type { Column } from "./table.js";
import { shortId } from "./task.js";
import { plain } from "./text.js";
import { ago } from "./time.js";
import * as words from "./words.js";

export function portWords({ publishedPort, targetPort, name, mode }: PortSpec): string {
  const notes = [...(name === "" ? [] : [name]), ...(mode === PublishMode.HOST ? ["on the task's host"] : [])];
  return `${publishedPort === 0 ? "" : `*:${publishedPort}->`}${targetPort}/tcp${notes.length === 0 ? "" : ` (${notes.join(", ")})`}`;
}

const specOf = (state: ServiceState) => state.service?.spec;

export function serviceColumns({ trunc, nowMs }: { trunc: boolean; nowMs: number }): Column<ServiceState>[] {
  return [
    { key: "ID", header: "ID", get: ({ service }) => shortId(service?.meta?.id ?? "", trunc) },
    { key: "Name", header: "NAME", get: (state) => specOf(state)?.name ?? "" },
    { key: "Mode", header: "MODE", get: (state) => words.modeWord(specOf(state)?.mode) },
    { key: "Replicas", header: "REPLICAS", get: (state) => replicasWords(state, nowMs) },
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

function replicasWords(state: ServiceState, nowMs: number): string {
  const { service, replicasRunning, replicasDesired } = state;
  const perNode = service?.spec?.task?.placement?.maxReplicasPerNode ?? 0;
  const notes = [
    ...(service?.removing === true ? ["removing"] : []),
    ...((service?.waitingFor ?? "") === "" ? [] : ["waits"]),
    ...(perNode > 0 ? [`max ${perNode} per node`] : []),
  ];
  const counts = isJob(service?.spec) ? runsWords(state, nowMs) : `${replicasRunning}/${replicasDesired}`;
  return `${counts}${notes.map((note) => ` (${note})`).join("")}`;
}

function resources(of: Resources | undefined): string {
  const parts = [
    ...(of === undefined || of.nanoCpus === 0 ? [] : [`${formatNanoCpus(of.nanoCpus)} cores`]),
    ...(of === undefined || of.memoryBytes === 0 ? [] : [formatBytes(of.memoryBytes)]),
    ...Object.entries(of?.generic ?? {}).map(([name, amount]) => `${name}=${amount}`),
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
    ["max surge", config.maxSurge === undefined ? "" : String(config.maxSurge)],
    ["max unavailable", config.maxUnavailable === undefined ? "" : String(config.maxUnavailable)],
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

function affinityWords({ expression, weight, required }: Affinity): string {
  if (required) return `${expression} (required)`;
  return weight < 0 ? `rather not ${expression} (weight ${-weight})` : `${expression} (weight ${weight})`;
}

/** "2 to 10 replicas by cpu 60 %, memory 80 %; up after 15s, down after 5m" */
function autoscaleWords(spec: AutoscaleSpec | undefined): string {
  if (spec === undefined) return "";
  const targets = [
    ...(spec.cpuPercent === undefined ? [] : [`cpu ${spec.cpuPercent} %`]),
    ...(spec.memoryPercent === undefined ? [] : [`memory ${spec.memoryPercent} %`]),
    ...(spec.requestsPerReplica === undefined ? [] : [`${spec.requestsPerReplica} requests/s each`]),
  ];
  const coolDowns = [
    ...(spec.upCoolDownMs === undefined ? [] : [`up after ${formatDurationMs(spec.upCoolDownMs)}`]),
    ...(spec.downCoolDownMs === undefined ? [] : [`down after ${formatDurationMs(spec.downCoolDownMs)}`]),
  ];
  return `${spec.min} to ${spec.max} replicas by ${targets.join(", ")}${coolDowns.length === 0 ? "" : `; ${coolDowns.join(", ")}`}`;
}

/** A schedule with what it does about runs that go on. */
function cronWords(mode: ServiceSpec["mode"]): string {
  if (mode?.$case !== "cron") return "";
  const { schedule, timeZone, concurrency, keepSucceeded, keepFailed, startDeadlineMs, suspended } = mode.value;
  return [
    `${schedule} (${timeZone === "" ? "UTC" : timeZone})`,
    ...(suspended ? ["suspended"] : []),
    ...(concurrency === 0 ? [] : [`${words.concurrencyPolicy(concurrency)} while a run goes on`]),
    ...(keepSucceeded === undefined ? [] : [`keeps ${keepSucceeded} that succeeded`]),
    ...(keepFailed === undefined ? [] : [`keeps ${keepFailed} that failed`]),
    ...(startDeadlineMs === undefined ? [] : [`skipped when later than ${formatDurationMs(startDeadlineMs)}`]),
  ].join(", ");
}

function completionsWords(mode: ServiceSpec["mode"]): string {
  if (mode?.$case !== "replicatedJob" && mode?.$case !== "cron") return "";
  const { completions = 1, maxConcurrent } = mode.value;
  return `${completions}${maxConcurrent === undefined ? "" : `, ${maxConcurrent} at the same time`}`;
}

const runsShownMax = 10;

function runLines(service: Service | undefined, nowMs: number): string {
  const runs = [...(service?.job?.runs ?? [])].sort((a, b) => b.number - a.number).slice(0, runsShownMax);
  const rows = runs.map((run) => runLine(run, nowMs));
  const widths = [0, 1, 2, 3].map((i) => Math.max(0, ...rows.map((row) => row[i]?.length ?? 0)));
  const lines = rows.map((row) =>
    plain(row.map((cell, i) => (i < widths.length ? cell.padEnd(widths[i] ?? 0) : cell)).join("  ")).trimEnd(),
  );
  return lines.length === 0 ? "" : `Runs:\n${lines.map((line) => `  ${line}\n`).join("")}`;
}

/** `inspect --pretty`: a line per thing that is set. */
export function servicePretty(state: ServiceState, nowMs: number): string {
  const { service, rollout } = state;
  const spec = service?.spec;
  const container = spec?.task?.container;
  const { restart, placement } = spec?.task ?? {};
  const rows: [string, string][] = [
    ["ID", service?.meta?.id ?? ""],
    ["Name", spec?.name ?? ""],
    ["Revision", `${service?.revision ?? 0}, ${ago(service?.meta?.updatedAtMs ?? 0, nowMs)}`],
    ["Mode", words.modeWord(spec?.mode)],
    [isJob(spec) ? "Job" : "Replicas", replicasWords(state, nowMs)],
    ["Completions", completionsWords(spec?.mode)],
    ["Schedule", cronWords(spec?.mode)],
    ["Not begun", service?.waitingFor ?? ""],
    ["Depends on", (spec?.dependsOn ?? []).join(", ")],
    ["Autoscale", autoscaleWords(spec?.autoscale)],
    ["Autoscaled", service?.autoscale?.message ?? ""],
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
        .map(
          (m) =>
            `${words.mountType(m.type)} ${m.source}→${m.target}${m.readOnly ? " (ro)" : ""}${m.volumeDriver === "" ? "" : ` (driver ${m.volumeDriver})`}`,
        )
        .join(", "),
    ],
    ["Ports", (spec?.ports ?? []).map(portWords).join(", ")],
    ["Constraints", (placement?.constraints ?? []).join(", ")],
    ["Preferences", (placement?.preferences ?? []).join(", ")],
    ["Affinities", (placement?.affinities ?? []).map(affinityWords).join(", ")],
    ["Strategy", (placement?.strategy ?? 0) === 0 ? "" : words.placementStrategy(placement?.strategy ?? 0)],
    ["Priority", (spec?.task?.priority ?? 0) === 0 ? "" : String(spec?.task?.priority)],
    ["Reserved", resources(spec?.task?.reservations)],
    ["Limits", resources(spec?.task?.limits)],
    ["Restart", restart === undefined || restart.condition === 0 ? "" : words.restartCondition(restart.condition)],
    [
      "Without managers",
      spec?.stopAfterDisconnectMs === undefined
        ? ""
        : `tasks stop after ${formatDurationMs(spec.stopAfterDisconnectMs)} and are replaced only then`,
    ],
    // A job's next run is of its next revision: nothing is rolled.
    ["Update", isJob(spec) ? "" : update(spec?.update)],
    ["Rollback", isJob(spec) ? "" : update(spec?.rollback)],
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
    runLines(service, nowMs) +
    (revisions.length === 0 ? "" : `Revisions:\n${revisions.join("")}`)
  );
}
