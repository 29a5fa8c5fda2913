// The one gate of service specs: everything wrong with a spec at once, or the spec with every default filled in.
// Checking a checked spec changes nothing.

import type {
  RestartPolicy as RestartMessage,
  ServiceSpec as ServiceMessage,
} from "../../proto/gen/flotilla/objects/v1/objects.js";
import type { Violation } from "../../lib/mod.js";
import { FailureAction, RestartCondition, type RestartPolicy, type ServiceSpec } from "../../proto/mod.js";
import { checkAutoscale, checkTargets } from "./autoscale.js";
import { checkContainer } from "./container.js";
import { checkLabels } from "./labels.js";
import { limits } from "./limits.js";
import { checkMode, isJob } from "./mode.js";
import { checkPlacement } from "./placement.js";
import { checkPorts } from "./ports.js";
import { Problems } from "./problems.js";
import { checkResources } from "./resources.js";
import { checkTogether } from "./together.js";
import { specBytes } from "./template.js";
import { checkUpdate } from "./update.js";
import { words } from "./words.js";

export type CheckedSpec = { spec: ServiceSpec } | { violations: Violation[] };

/** A service's name is a DNS label, RFC 1035 section 2.3.1 with digits allowed first (RFC 1123 section 2.1). */
const namePattern = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

export function checkServiceSpec(message: ServiceMessage): CheckedSpec {
  const problems = new Problems();
  checkUnknown("spec", message, problems);
  checkName("name", message.name, problems);
  const autoscale = checkAutoscale(message.autoscale, problems);
  const mode = checkMode(message, autoscale, problems);
  const spec: ServiceSpec = {
    name: message.name,
    labels: checkLabels("labels", message.labels, problems),
    mode,
    task: {
      container: checkContainer(message.task?.container, problems),
      ...checkResources(message.task, problems),
      restart: checkRestart(message.task?.restart, isJob({ mode }), problems),
      placement: checkPlacement(message.task?.placement, problems),
      priority: problems.whole("priority", message.task?.priority, 0, -limits.priority, limits.priority),
    },
    ports: checkPorts(message.ports, problems),
    update: checkUpdate("update", message.update, problems),
    rollback: checkUpdate("rollback", message.rollback, problems),
    drainTimeoutMs: problems.duration("drain_timeout", message.drainTimeoutMs, 5000, limits.drainMs),
    dependsOn: checkDependsOn(message.name, message.dependsOn, problems),
    ...(message.stopAfterDisconnectMs === undefined
      ? {}
      : {
          stopAfterDisconnectMs: problems.duration(
            "stop_after_disconnect",
            message.stopAfterDisconnectMs,
            60_000,
            limits.durationMs,
            limits.disconnectMs,
          ),
        }),
    autoscale,
  };
  if (spec.rollback.failureAction === FailureAction.ROLLBACK)
    problems.add("rollback.failure_action", "rollback", "must be pause or continue", "use pause");
  checkTargets(autoscale, mode, spec.task, problems);
  checkTogether(spec, problems);
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

function checkName(field: string, name: string, problems: Problems): void {
  if (namePattern.test(name)) return;
  const meant = name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .slice(0, limits.nameLength)
    .replace(/^-+|-+$/g, "");
  problems.add(
    field,
    name,
    `must be 1 to ${limits.nameLength} lower-case letters, digits and -, beginning and ending with a letter or digit`,
    `write for example ${meant === "" ? "web" : meant}`,
  );
}

/** Cycles over several services are `findCycle`'s to see, which knows the others. */
function checkDependsOn(name: string, names: readonly string[], problems: Problems): string[] {
  if (!problems.fits("depends_on", names.length, limits.dependsOn, "services")) return [];
  for (const [i, needed] of names.entries()) {
    const field = `depends_on[${i}]`;
    checkName(field, needed, problems);
    const before = names.indexOf(needed);
    if (before < i) problems.add(field, needed, `must be unique, depends_on[${before}] says it too`, "leave one out");
    else if (needed === name)
      problems.add(field, needed, "must not be the service itself, which would wait for ever", "leave it out");
  }
  return [...names];
}

/** A job's task that ended well is done, and is not started again whatever is asked for. */
function checkRestart(message: RestartMessage | undefined, job: boolean, problems: Problems): RestartPolicy {
  const condition = problems.choice(
    "restart.condition",
    message?.condition ?? RestartCondition.UNSPECIFIED,
    job ? RestartCondition.ON_FAILURE : RestartCondition.ANY,
    words.restart,
  );
  if (job && condition === RestartCondition.ANY)
    problems.add(
      "restart.condition",
      "any",
      "must be none or on-failure for a job, whose tasks are done when they end well",
      "use on-failure",
    );
  return {
    condition,
    delayMs: problems.duration("restart.delay", message?.delayMs, 1000),
    maxAttempts: problems.whole("restart.max_attempts", message?.maxAttempts, 3, 0, limits.attempts),
    windowMs: problems.duration("restart.window", message?.windowMs, 120_000),
  };
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
