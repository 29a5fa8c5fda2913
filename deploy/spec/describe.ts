// A spec in lines, each a field as errors name it with its value as people write it. Plans compare them.

import { formatBytes, formatDurationMs, parseBytes, parseDurationMs } from "../../lib/mod.js";
import {
  type Affinity,
  type AutoscaleSpec,
  type ContainerSpec,
  type Mount,
  type PortSpec,
  PublishMode,
  type Resources,
  type ServiceSpec,
  type UpdateConfig,
} from "../../proto/mod.js";
import { modeWord } from "./mode.js";
import { portTemplate } from "./template.js";
import { words } from "./words.js";

export interface Line {
  /** What makes it the same line in another spec, where its place in a list may be another. */
  key: string;
  field: string;
  /** Empty when the field is absent. */
  text: string;
  /** The part of it that tasks are made of: another one replaces them. */
  template: string;
}

/** Lines that belong together; every spec has the same sections in the same order. */
export interface Section {
  /** The list whose entries they are; empty when they are fields. */
  list: string;
  /** Whether another order of the same entries replaces tasks. */
  orderReplaces: boolean;
  lines: Line[];
}

/** Text that says the value exactly: the short form where nothing is lost by it. */
const duration = (ms: number | undefined): string =>
  ms === undefined ? "" : parseDurationMs(formatDurationMs(ms)) === ms ? formatDurationMs(ms) : `${ms}ms`;
const size = (bytes: number): string =>
  bytes === 0 ? "" : parseBytes(formatBytes(bytes)) === bytes ? formatBytes(bytes) : `${bytes}b`;
const number = (value: number | undefined): string => (value === undefined ? "" : String(value));
const word = <T extends number>(known: ReadonlyMap<T, string>, value: number): string => {
  for (const [code, name] of known) if (code === value) return name;
  return value === 0 ? "" : String(value);
};
/** As one would type it: words with anything unusual in quotes. */
const shell = (list: readonly string[]): string =>
  list.map((part) => (/^[\w@%+=:,./-]+$/.test(part) ? part : JSON.stringify(part))).join(" ");

type Entry = readonly [field: string, text: string];

/** Fields of one place each. */
function fields(entries: readonly Entry[], replaces: boolean): Section {
  return {
    list: "",
    orderReplaces: false,
    lines: entries.map(([field, text]) => ({ key: field, field, text, template: replaces ? text : "" })),
  };
}

/** The entries of a list, matched by what names them. */
function entries<T>(
  list: string,
  items: readonly T[],
  { key, text, replaces }: { key: (item: T) => string; text: (item: T) => string; replaces: boolean },
): Section {
  return {
    list,
    orderReplaces: replaces,
    lines: items.map((item, i) => ({
      key: key(item),
      field: `${list}[${i}]`,
      text: text(item),
      template: replaces ? text(item) : "",
    })),
  };
}

const texts = (list: string, items: readonly string[]): Section =>
  entries(list, items, { key: (item) => item, text: (item) => item, replaces: false });

/** With their keys in the text: an empty value is not an absent label. */
function labels(field: string, table: Readonly<Record<string, string>>, replaces: boolean): Section {
  const sorted = Object.entries(table).sort(([a], [b]) => (a < b ? -1 : 1));
  return fields(
    sorted.map(([key, value]): Entry => [`${field}.${key}`, `${key}=${value}`]),
    replaces,
  );
}

export function describe(spec: ServiceSpec): Section[] {
  const { task } = spec;
  return [
    fields([["name", spec.name]], false),
    labels("labels", spec.labels, false),
    fields(describeMode(spec.mode), false),
    fields(describeAutoscale(spec.autoscale), false),
    ...describeContainer(task.container),
    fields(
      [...describeResources("reservations", task.reservations), ...describeResources("limits", task.limits)],
      true,
    ),
    fields(
      [
        ["restart.condition", word(words.restart, task.restart.condition)],
        ["restart.delay", duration(task.restart.delayMs)],
        ["restart.max_attempts", number(task.restart.maxAttempts)],
        ["restart.window", duration(task.restart.windowMs)],
      ],
      true,
    ),
    texts("constraints", task.placement.constraints),
    texts("preferences", task.placement.preferences),
    entries("affinities", task.placement.affinities, {
      key: ({ expression }) => expression,
      text: affinityText,
      replaces: false,
    }),
    fields(
      [
        ["max_replicas_per_node", number(task.placement.maxReplicasPerNode)],
        ["strategy", word(words.strategy, task.placement.strategy)],
        ["priority", number(task.priority)],
      ],
      false,
    ),
    describePorts(spec.ports),
    fields(
      [...describeUpdate("update", spec.update), ...describeUpdate("rollback", spec.rollback)].map(toEntry),
      false,
    ),
    fields([["drain_timeout", duration(spec.drainTimeoutMs)]], false),
    fields([["stop_after_disconnect", duration(spec.stopAfterDisconnectMs)]], true),
    texts("depends_on", spec.dependsOn),
  ];
}

const toEntry = ({ field, text }: { field: string; text: string }): Entry => [field, text];

function describeMode(mode: ServiceSpec["mode"]): Entry[] {
  const run = (value: { completions?: number | undefined; maxConcurrent?: number | undefined }): Entry[] => [
    ["completions", number(value.completions)],
    ["max_concurrent", number(value.maxConcurrent)],
  ];
  const named: Entry = ["mode", modeWord(mode)];
  switch (mode.$case) {
    case "replicated":
      return [named, ["replicas", number(mode.value.replicas)]];
    case "global":
    case "globalJob":
      return [named];
    case "replicatedJob":
      return [named, ...run(mode.value)];
    case "cron":
      return [
        named,
        ["cron.schedule", mode.value.schedule],
        ["cron.time_zone", mode.value.timeZone],
        ["cron.concurrency", word(words.concurrency, mode.value.concurrency)],
        ["cron.keep_succeeded", number(mode.value.keepSucceeded)],
        ["cron.keep_failed", number(mode.value.keepFailed)],
        ["cron.start_deadline", duration(mode.value.startDeadlineMs)],
        ["cron.suspended", String(mode.value.suspended)],
        ...run(mode.value),
      ];
  }
}

function describeAutoscale(autoscale: AutoscaleSpec | undefined): Entry[] {
  if (autoscale === undefined) return [];
  return [
    ["autoscale.min", number(autoscale.min)],
    ["autoscale.max", number(autoscale.max)],
    ["autoscale.cpu_percent", number(autoscale.cpuPercent)],
    ["autoscale.memory_percent", number(autoscale.memoryPercent)],
    ["autoscale.requests_per_replica", number(autoscale.requestsPerReplica)],
    ["autoscale.up_cool_down", duration(autoscale.upCoolDownMs)],
    ["autoscale.down_cool_down", duration(autoscale.downCoolDownMs)],
  ];
}

function describeContainer(container: ContainerSpec): Section[] {
  const { healthcheck } = container;
  return [
    fields(
      [
        ["image", container.image],
        ["command", shell(container.command)],
        ["args", shell(container.args)],
      ],
      true,
    ),
    entries("env", container.env, {
      key: (variable) => variable.split("=", 1)[0] ?? "",
      text: (variable) => variable,
      replaces: true,
    }),
    fields(
      [
        ["user", container.user],
        ["working_dir", container.workingDir],
        ["hostname", container.hostname],
      ],
      true,
    ),
    labels("container_labels", container.labels, true),
    fields(
      [
        ["stop_signal", container.stopSignal],
        ["stop_grace_period", duration(container.stopGracePeriodMs)],
        ["healthcheck.test", shell(healthcheck?.test ?? [])],
        ["healthcheck.interval", duration(healthcheck?.intervalMs)],
        ["healthcheck.timeout", duration(healthcheck?.timeoutMs)],
        ["healthcheck.start_period", duration(healthcheck?.startPeriodMs)],
        ["healthcheck.retries", number(healthcheck?.retries)],
        ["init", container.init === undefined ? "" : String(container.init)],
        ["tty", String(container.tty)],
        ["read_only", String(container.readOnly)],
        ["pull_policy", word(words.pull, container.pullPolicy)],
      ],
      true,
    ),
    entries("mounts", container.mounts, { key: ({ target }) => target, text: mountText, replaces: true }),
  ];
}

function describeResources(field: string, { nanoCpus, memoryBytes, generic }: Resources): Entry[] {
  return [
    [`${field}.cpus`, nanoCpus === 0 ? "" : String(nanoCpus / 1e9)],
    [`${field}.memory`, size(memoryBytes)],
    ...Object.entries(generic).map(([name, count]): Entry => [`${field}.generic.${name}`, number(count)]),
  ];
}

function describePorts(ports: readonly PortSpec[]): Section {
  return {
    list: "ports",
    orderReplaces: false,
    lines: ports.map((port, i) => ({
      key: `${port.targetPort}/${port.protocol}`,
      field: `ports[${i}]`,
      text: portText(port),
      template: portTemplate(port),
    })),
  };
}

export function describeUpdate(field: string, config: UpdateConfig): { field: string; text: string }[] {
  return [
    { field: `${field}.parallelism`, text: number(config.parallelism) },
    { field: `${field}.delay`, text: duration(config.delayMs) },
    { field: `${field}.order`, text: word(words.order, config.order) },
    { field: `${field}.monitor`, text: duration(config.monitorMs) },
    { field: `${field}.failure_action`, text: word(words.failureAction, config.failureAction) },
    { field: `${field}.max_failure_ratio`, text: number(config.maxFailureRatio) },
    { field: `${field}.min_healthy_time`, text: duration(config.minHealthyTimeMs) },
    { field: `${field}.progress_deadline`, text: duration(config.progressDeadlineMs) },
    { field: `${field}.max_surge`, text: number(config.maxSurge) },
    { field: `${field}.max_unavailable`, text: number(config.maxUnavailable) },
  ];
}

function mountText({ type, source, target, readOnly, volumeDriver }: Mount): string {
  return [
    `type=${word(words.mount, type)}`,
    ...(source === "" ? [] : [`source=${source}`]),
    `target=${target}`,
    ...(readOnly ? ["readonly"] : []),
    ...(volumeDriver === "" ? [] : [`volume-driver=${volumeDriver}`]),
  ].join(",");
}

function portText({ targetPort, publishedPort, protocol, mode, name }: PortSpec): string {
  return [
    ...(publishedPort === 0 ? [] : [`published=${publishedPort}`]),
    `target=${targetPort}`,
    `protocol=${word(words.protocol, protocol)}`,
    ...(mode === PublishMode.HOST ? ["mode=host"] : []),
    ...(name === "" ? [] : [`name=${name}`]),
  ].join(",");
}

function affinityText({ expression, weight, required }: Affinity): string {
  return required ? `${expression},required` : `${expression},weight=${weight}`;
}
