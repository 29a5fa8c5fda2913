// What a container of the service is: checks, and defaults filled in.

import { type ContainerSpec, type HealthCheck, type Mount, MountType, PullPolicy } from "../../proto/mod.js";
import type { ContainerSpec as ContainerMessage } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { parseImage } from "./image.js";
import { checkLabels } from "./labels.js";
import { limits } from "./limits.js";
import type { Problems } from "./problems.js";
import { closest } from "./suggest.js";
import { words } from "./words.js";

/** Variables that the agent sets in every container. */
const reservedVariables = [
  "FLOTILLA_TASK",
  "FLOTILLA_SERVICE",
  "FLOTILLA_SLOT",
  "FLOTILLA_REVISION",
  "FLOTILLA_NODE",
] as const;

/** Linux's signals, signal(7); those for real time are numbers or RTMIN+n. */
const signals = (
  "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG " +
  "XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
).split(" ");

export function checkContainer(message: ContainerMessage | undefined, problems: Problems): ContainerSpec {
  const container = message ?? emptyContainer;
  const image = parseImage(container.image);
  if ("rule" in image) problems.add("image", container.image, image.rule, image.fix);
  checkTexts("command", container.command, problems);
  checkTexts("args", container.args, problems);
  checkEnv(container.env, problems);
  if (
    problems.text("user", container.user, limits.userLength) &&
    container.user !== "" &&
    !/^[A-Za-z0-9_][A-Za-z0-9_.-]*\$?(:[A-Za-z0-9_][A-Za-z0-9_.-]*\$?)?$/.test(container.user)
  )
    problems.add(
      "user",
      container.user,
      "must be USER or USER:GROUP, by name or number",
      "write for example 1000:1000",
    );
  if (
    problems.text("working_dir", container.workingDir, limits.pathLength) &&
    container.workingDir !== "" &&
    !container.workingDir.startsWith("/")
  )
    problems.add(
      "working_dir",
      container.workingDir,
      "must be an absolute path",
      `write /${container.workingDir.replace(/^\.?\/*/, "")}`,
    );
  if (container.hostname !== "" && !/^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/.test(container.hostname))
    problems.add(
      "hostname",
      container.hostname,
      `must be letters, digits and -, at most ${limits.hostnameLength}, beginning and ending with a letter or digit`,
      "write for example web",
    );
  return {
    image: container.image,
    command: [...container.command],
    args: [...container.args],
    env: [...container.env],
    user: container.user,
    workingDir: container.workingDir,
    hostname: container.hostname,
    labels: checkLabels("container_labels", container.labels, problems),
    stopSignal: checkSignal(container.stopSignal, problems),
    stopGracePeriodMs: problems.duration("stop_grace_period", container.stopGracePeriodMs, 10_000),
    healthcheck: checkHealthCheck(container.healthcheck, problems),
    ...(container.init === undefined ? {} : { init: container.init }),
    tty: container.tty,
    readOnly: container.readOnly,
    mounts: checkMounts(container.mounts, problems),
    pullPolicy: problems.choice("pull_policy", container.pullPolicy, PullPolicy.MISSING, words.pull),
  };
}

const emptyContainer: ContainerMessage = {
  image: "",
  command: [],
  args: [],
  env: [],
  user: "",
  workingDir: "",
  hostname: "",
  labels: {},
  stopSignal: "",
  healthcheck: undefined,
  tty: false,
  readOnly: false,
  mounts: [],
  pullPolicy: PullPolicy.UNSPECIFIED,
};

function checkTexts(field: string, texts: readonly string[], problems: Problems): void {
  if (!problems.fits(field, texts.length, limits.args, "words")) return;
  for (const [i, text] of texts.entries()) problems.text(`${field}[${i}]`, text, limits.textLength);
}

function checkEnv(env: readonly string[], problems: Problems): void {
  if (!problems.fits("env", env.length, limits.env, "variables")) return;
  const seen = new Map<string, number>();
  for (const [i, variable] of env.entries()) {
    const field = `env[${i}]`;
    if (!problems.text(field, variable, limits.textLength)) continue;
    const equals = variable.indexOf("=");
    const name = equals < 0 ? variable : variable.slice(0, equals);
    if (equals < 1 || /\s/.test(name)) {
      problems.add(
        field,
        variable,
        "must be NAME=value, with a name without white space",
        equals < 0 && name !== "" && !/\s/.test(name) ? `write ${name}=value` : "write for example LOG_LEVEL=info",
      );
      continue;
    }
    const before = seen.get(name);
    if (before !== undefined)
      problems.add(field, variable, `must set each variable once, env[${before}] sets ${name} too`, "leave one out");
    seen.set(name, before ?? i);
    if (reservedVariables.some((reserved) => reserved === name))
      problems.add(field, variable, `must not set ${name}, which Flotilla sets itself`, "use another name");
  }
}

function checkSignal(signal: string, problems: Problems): string {
  if (signal === "") return signal;
  const name = signal.toUpperCase().replace(/^SIG/, "");
  const number = /^\d{1,3}$/.test(signal) ? Number(signal) : undefined;
  const known =
    number === undefined
      ? signals.includes(name) || /^RTM(IN\+([1-9]|1\d|2\d|30)|AX-\d{1,2}|IN|AX)$/.test(name)
      : number >= 1 && number <= 64;
  if (known) return signal;
  const meant = closest(name, signals);
  problems.add(
    "stop_signal",
    signal,
    "must be a signal's name or a number from 1 to 64",
    meant === undefined ? "write for example SIGTERM" : `did you mean SIG${meant}?`,
  );
  return signal;
}

const isAbsent = (value: unknown): boolean => value === undefined;

function checkHealthCheck(check: HealthCheck | undefined, problems: Problems): HealthCheck | undefined {
  if (check === undefined) return undefined;
  const { test } = check;
  // One that says nothing is the image's own.
  if (test.length === 0 && [check.intervalMs, check.timeoutMs, check.startPeriodMs, check.retries].every(isAbsent))
    return undefined;
  const [form, ...words] = test;
  const example = 'write for example ["CMD-SHELL", "wget -q -O /dev/null http://127.0.0.1/ || exit 1"]';
  checkTexts("healthcheck.test", test, problems);
  if (form !== undefined && form !== "NONE" && form !== "CMD" && form !== "CMD-SHELL")
    problems.add("healthcheck.test", JSON.stringify(test), 'must begin with "CMD", "CMD-SHELL" or "NONE"', example);
  else if (form === "NONE" && words.length > 0)
    problems.add("healthcheck.test", JSON.stringify(test), 'must have nothing after "NONE"', 'write ["NONE"]');
  else if (form === "CMD" && words.length === 0)
    problems.add("healthcheck.test", JSON.stringify(test), 'must have a command after "CMD"', example);
  else if (form === "CMD-SHELL" && words.length !== 1)
    problems.add(
      "healthcheck.test",
      JSON.stringify(test),
      'must have exactly one command line after "CMD-SHELL"',
      example,
    );
  // Absent parts are the image's own or the engine's defaults: they are not filled in.
  const duration = (name: string, value: number | undefined, example_: number) =>
    value === undefined ? undefined : problems.duration(`healthcheck.${name}`, value, example_);
  const intervalMs = duration("interval", check.intervalMs, 30_000);
  const timeoutMs = duration("timeout", check.timeoutMs, 30_000);
  const startPeriodMs = duration("start_period", check.startPeriodMs, 10_000);
  const retries =
    check.retries === undefined
      ? undefined
      : problems.whole("healthcheck.retries", check.retries, 3, 0, limits.retries);
  return {
    test: [...test],
    ...(intervalMs === undefined ? {} : { intervalMs }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(startPeriodMs === undefined ? {} : { startPeriodMs }),
    ...(retries === undefined ? {} : { retries }),
  };
}

function checkMounts(mounts: readonly Mount[], problems: Problems): Mount[] {
  if (!problems.fits("mounts", mounts.length, limits.mounts, "mounts")) return [];
  const targets = new Map<string, number>();
  return mounts.map((mount, i) => {
    const field = `mounts[${i}]`;
    const type = problems.choice(`${field}.type`, mount.type, MountType.VOLUME, words.mount);
    if (problems.text(`${field}.target`, mount.target, limits.pathLength)) {
      // /data and /data/ are one place.
      const target = mount.target.replace(/\/+/g, "/").replace(/(.)\/$/, "$1");
      const before = targets.get(target);
      if (!mount.target.startsWith("/"))
        problems.add(`${field}.target`, mount.target, "must be an absolute path", `write /${mount.target}`);
      else if (target === "/" || /(^|\/)\.\.?(\/|$)/.test(target))
        problems.add(
          `${field}.target`,
          mount.target,
          "must be a path below / without . and ..",
          "write for example /data",
        );
      else if (before !== undefined)
        problems.add(`${field}.target`, mount.target, `must be unique, mounts[${before}] has it too`, "leave one out");
      targets.set(target, before ?? i);
    }
    checkSource(`${field}.source`, type, mount.source, problems);
    checkVolumeDriver(`${field}.volume_driver`, type, mount.volumeDriver, problems);
    return {
      type,
      source: mount.source,
      target: mount.target,
      readOnly: mount.readOnly,
      volumeDriver: mount.volumeDriver,
    };
  });
}

function checkVolumeDriver(field: string, type: MountType, driver: string, problems: Problems): void {
  if (driver === "") return;
  if (type !== MountType.VOLUME)
    problems.add(field, driver, "must be empty for what is not a volume", "leave it out, or use type=volume");
  else if (driver.length > limits.volumeNameLength || !/^[a-zA-Z0-9][a-zA-Z0-9_.:/-]*$/.test(driver))
    problems.add(
      field,
      driver,
      "must be a volume driver's name: letters, digits, _ . : / and -, beginning with a letter or digit",
      "write for example local",
    );
}

function checkSource(field: string, type: MountType, source: string, problems: Problems): void {
  if (!problems.text(field, source, limits.pathLength)) return;
  if (type === MountType.BIND && !source.startsWith("/"))
    problems.add(field, source, "must be an absolute path of the host for a bind mount", "write for example /srv/data");
  if (type === MountType.TMPFS && source !== "")
    problems.add(field, source, "must be empty for a tmpfs mount", "leave it out");
  // An empty name is a volume without one, which goes with the container.
  if (
    type === MountType.VOLUME &&
    source !== "" &&
    (source.length > limits.volumeNameLength || !/^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/.test(source))
  )
    problems.add(
      field,
      source,
      "must be a volume's name: letters, digits, _ . and -, at least two, beginning with a letter or digit",
      source.startsWith("/") ? "use type=bind for a path of the host" : "write for example web-data",
    );
}
