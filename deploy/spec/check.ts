// The one gate of service specs: everything wrong with a spec at once, or the spec with every default filled in.
// Checking a checked spec changes nothing.

import type {
  PortSpec,
  RestartPolicy as RestartMessage,
  ServiceSpec as ServiceMessage,
  UpdateConfig as UpdateMessage,
} from "../../proto/gen/flotilla/objects/v1/objects.js";
import { formatDurationMs, type Violation } from "../../lib/mod.js";
import {
  PlacementStrategy,
  FailureAction,
  type Placement,
  Protocol,
  PublishMode,
  RestartCondition,
  type RestartPolicy,
  type ServiceSpec,
  type UpdateConfig,
  UpdateOrder,
} from "../../proto/mod.js";
import { parseConstraint } from "./constraint.js";
import { checkContainer, checkResources } from "./container.js";
import { checkLabels } from "./labels.js";
import { limits } from "./limits.js";
import { Problems } from "./problems.js";
import { specBytes } from "./template.js";

export type CheckedSpec = { spec: ServiceSpec } | { violations: Violation[] };

/** A service's name is a DNS label, RFC 1035 section 2.3.1 with digits allowed first (RFC 1123 section 2.1). */
const namePattern = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

export function checkServiceSpec(message: ServiceMessage): CheckedSpec {
  const problems = new Problems();
  checkUnknown("spec", message, problems);
  checkName(message.name, problems);
  const replicas = message.mode?.$case === "replicated" ? message.mode.value.replicas : 1;
  checkReplicas(replicas, problems);
  const spec: ServiceSpec = {
    name: message.name,
    labels: checkLabels("labels", message.labels, problems),
    mode: { $case: "replicated", value: { replicas } },
    task: {
      container: checkContainer(message.task?.container, problems),
      ...checkResources(message.task, problems),
      restart: checkRestart(message.task?.restart, problems),
      placement: checkPlacement(message.task?.placement, problems),
      priority: message.task?.priority ?? 0,
    },
    dependsOn: message.dependsOn,
    autoscale: undefined,
    ports: checkPorts(message.ports, problems),
    update: checkUpdate("update", message.update, problems),
    rollback: checkUpdate("rollback", message.rollback, problems),
    drainTimeoutMs: problems.duration("drain_timeout", message.drainTimeoutMs, 5000, limits.drainMs),
  };
  if (spec.rollback.failureAction === FailureAction.ROLLBACK)
    problems.add("rollback.failure_action", "rollback", "must be pause or continue", "use pause");
  const bytes = specBytes(spec);
  if (bytes > limits.specBytes)
    problems.add(
      "spec",
      `${bytes} bytes`,
      `must have at most ${limits.specBytes} bytes`,
      "move large values into files",
    );
  return problems.any ? { violations: problems.list() } : { spec };
}

function checkName(name: string, problems: Problems): void {
  if (namePattern.test(name)) return;
  const meant = name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .slice(0, limits.nameLength)
    .replace(/^-+|-+$/g, "");
  problems.add(
    "name",
    name,
    `must be 1 to ${limits.nameLength} lower-case letters, digits and -, beginning and ending with a letter or digit`,
    `write for example ${meant === "" ? "web" : meant}`,
  );
}

/** One rule for create, update and scale. */
export function checkReplicas(replicas: number, problems: Problems): void {
  problems.whole("replicas", replicas, 3, 0, limits.replicas);
}

function checkPorts(ports: readonly PortSpec[], problems: Problems): PortSpec[] {
  if (!problems.fits("ports", ports.length, limits.ports, "ports")) return [];
  const targets = new Map<string, number>();
  const published = new Map<string, number>();
  const names = new Map<string, number>();
  const once = (seen: Map<string, number>, key: string, field: string, value: string | number, i: number) => {
    const before = seen.get(key);
    if (before !== undefined)
      problems.add(field, value, `must be unique, ports[${before}] has it too`, "use another or leave one out");
    seen.set(key, before ?? i);
  };
  return ports.map((port, i) => {
    const field = `ports[${i}]`;
    const protocol = port.protocol === Protocol.UNSPECIFIED ? Protocol.TCP : port.protocol;
    problems.whole(`${field}.target`, port.targetPort, 80, 1, 65_535);
    once(targets, `${port.targetPort}/${protocol}`, `${field}.target`, port.targetPort, i);
    if (port.publishedPort !== 0) {
      problems.whole(`${field}.published`, port.publishedPort, 8080, 1, 65_535);
      if (limits.ownPorts.includes(port.publishedPort))
        problems.add(
          `${field}.published`,
          port.publishedPort,
          `must not be one of ${limits.ownPorts.join(", ")}, where Flotilla's own processes listen`,
          "publish for example 8080",
        );
      once(published, `${port.publishedPort}/${protocol}`, `${field}.published`, port.publishedPort, i);
    }
    if (port.name !== "") {
      if (
        port.name.length > limits.portNameLength ||
        !/^[a-z0-9]+(-[a-z0-9]+)*$/.test(port.name) ||
        !/[a-z]/.test(port.name)
      )
        problems.add(
          `${field}.name`,
          port.name,
          `must be 1 to ${limits.portNameLength} lower-case letters, digits and single -, with a letter`,
          "write for example http",
        );
      once(names, port.name, `${field}.name`, port.name, i);
    }
    return {
      protocol,
      targetPort: port.targetPort,
      publishedPort: port.publishedPort,
      name: port.name,
      mode: PublishMode.INGRESS,
    };
  });
}

function checkRestart(message: RestartMessage | undefined, problems: Problems): RestartPolicy {
  const condition = message?.condition ?? RestartCondition.UNSPECIFIED;
  return {
    condition: condition === RestartCondition.UNSPECIFIED ? RestartCondition.ANY : condition,
    delayMs: problems.duration("restart.delay", message?.delayMs, 1000),
    maxAttempts: problems.whole("restart.max_attempts", message?.maxAttempts, 3, 0, limits.attempts),
    windowMs: problems.duration("restart.window", message?.windowMs, 120_000),
  };
}

function checkPlacement(message: Placement | undefined, problems: Problems): Placement {
  const constraints = message?.constraints ?? [];
  const maxReplicasPerNode = problems.whole(
    "max_replicas_per_node",
    message?.maxReplicasPerNode,
    0,
    0,
    limits.maxReplicasPerNode,
  );
  if (!problems.fits("constraints", constraints.length, limits.constraints, "constraints"))
    return {
      constraints: [],
      maxReplicasPerNode,
      preferences: [],
      affinities: [],
      strategy: PlacementStrategy.UNSPECIFIED,
    };
  const seen = new Map<string, number>();
  const texts = constraints.map((text, i) => {
    const parsed = parseConstraint(text);
    if ("rule" in parsed) {
      problems.add(`constraints[${i}]`, text, parsed.rule, parsed.fix);
      return text;
    }
    const before = seen.get(parsed.constraint.text);
    if (before !== undefined)
      problems.add(`constraints[${i}]`, text, `must be unique, constraints[${before}] says it too`, "leave one out");
    seen.set(parsed.constraint.text, before ?? i);
    return parsed.constraint.text;
  });
  return {
    constraints: texts,
    maxReplicasPerNode,
    preferences: [],
    affinities: [],
    strategy: PlacementStrategy.UNSPECIFIED,
  };
}

function checkUpdate(field: string, message: UpdateMessage | undefined, problems: Problems): UpdateConfig {
  const order = message?.order ?? UpdateOrder.UNSPECIFIED;
  const action = message?.failureAction ?? FailureAction.UNSPECIFIED;
  const ratio = message?.maxFailureRatio ?? 0;
  if (!(ratio >= 0 && ratio <= 1))
    problems.add(`${field}.max_failure_ratio`, ratio, "must be a share from 0 to 1", "use for example 0.1");
  const config: UpdateConfig = {
    parallelism: problems.whole(`${field}.parallelism`, message?.parallelism, 1, 0, limits.parallelism),
    delayMs: problems.duration(`${field}.delay`, message?.delayMs, 0),
    order: order === UpdateOrder.UNSPECIFIED ? UpdateOrder.STOP_FIRST : order,
    monitorMs: problems.duration(`${field}.monitor`, message?.monitorMs, 5000),
    failureAction: action === FailureAction.UNSPECIFIED ? FailureAction.PAUSE : action,
    maxFailureRatio: ratio,
    minHealthyTimeMs: problems.duration(`${field}.min_healthy_time`, message?.minHealthyTimeMs, 1_000),
    progressDeadlineMs: problems.duration(`${field}.progress_deadline`, message?.progressDeadlineMs, 600_000),
  };
  // A task that cannot count as good in time would fail every rollout.
  if (config.progressDeadlineMs <= config.minHealthyTimeMs)
    problems.add(
      `${field}.progress_deadline`,
      formatDurationMs(config.progressDeadlineMs),
      `must be longer than ${field}.min_healthy_time (${formatDurationMs(config.minHealthyTimeMs)})`,
      `use for example ${formatDurationMs(Math.min(config.minHealthyTimeMs + 600_000, limits.durationMs))}`,
    );
  return config;
}

/** A newer client may send fields that this manager does not know: dropping them would do less than was asked. */
function checkUnknown(path: string, value: unknown, problems: Problems): void {
  if (typeof value !== "object" || value === null) return;
  for (const [key, part] of Object.entries(value)) {
    if (key !== "_unknownFields")
      checkUnknown(Array.isArray(value) ? `${path}[${key}]` : `${path}.${key}`, part, problems);
    // Decoding leaves an empty table where there are none.
    else if (typeof part === "object" && part !== null && Object.keys(part).length > 0)
      problems.add(
        path,
        `field ${Object.keys(part).join(", ")}`,
        "must have no field that this manager does not know",
        "use a client of the managers' version",
      );
  }
}
