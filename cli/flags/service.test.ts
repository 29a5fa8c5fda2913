import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import {
  ConcurrencyPolicy,
  PlacementStrategy,
  PublishMode,
  FailureAction,
  MountType,
  PullPolicy,
  RestartCondition,
  ServiceSpec,
  UpdateOrder,
} from "../../proto/gen/flotilla/objects/v1/objects.js";
import { UsageError } from "../exit.js";
import { FlagReader } from "./reader.js";
import { applyFlags, emptySpec, flagsOf, serviceFlags } from "./service.js";

const folder = mkdtempSync(join(tmpdir(), "flotilla-flags-"));
afterAll(() => rmSync(folder, { recursive: true }));

function apply(
  command: "create" | "update",
  given: Record<string, string | string[]>,
  from: ServiceSpec = emptySpec(),
) {
  const reader = new FlagReader(new Map(Object.entries(given).map(([flag, value]) => [flag, [value].flat()])));
  const notes: string[] = [];
  const spec = applyFlags(from, command, {
    flags: reader,
    checkMode: true,
    env: { HOME: "/root" },
    note: (text) => notes.push(text),
  });
  return { spec, notes, check: () => reader.check() };
}

function violations(check: () => void): string[] {
  try {
    check();
  } catch (error) {
    return (error as UsageError).violations.map(({ field, rule }) => `${field} ${rule}`);
  }
  return [];
}

describe("flags of service create", () => {
  it("leave what is not given to the managers", () => {
    const { spec } = apply("create", {});
    expect(spec).toEqual(ServiceSpec.decode(ServiceSpec.encode(spec).finish()));
    expect(spec.mode).toMatchObject({ $case: "replicated", value: { replicas: 1 } });
    expect(spec.update.parallelism).toBeUndefined();
    expect(spec.task.container.stopGracePeriodMs).toBeUndefined();
    expect(spec.drainTimeoutMs).toBeUndefined();
  });

  it("go to their places", () => {
    const { spec, check } = apply("create", {
      name: "web",
      replicas: "6",
      publish: ["8080:80", "published=8443,target=443,name=https"],
      expose: "9000",
      env: ["A=1", "B=2", "A=3", "HOME", "UNSET"],
      label: ["team=blue", "x"],
      "container-label": "c=d",
      constraint: ["node.labels.zone==eu", "node.labels.zone==eu"],
      "reserve-memory": "256m",
      "reserve-cpu": "0.5",
      "limit-memory": "1g",
      "limit-cpu": "2",
      "replicas-max-per-node": "2",
      "restart-condition": "on-failure",
      "restart-delay": "2s",
      "restart-max-attempts": "0",
      "restart-window": "1m",
      "update-parallelism": "0",
      "update-delay": "1s",
      "update-order": "start-first",
      "update-monitor": "10s",
      "update-failure-action": "rollback",
      "update-max-failure-ratio": "0.25",
      "update-min-healthy-time": "3s",
      "update-progress-deadline": "5m",
      "rollback-parallelism": "3",
      "rollback-failure-action": "continue",
      "health-cmd": "curl -f http://localhost/",
      "health-interval": "5s",
      "health-retries": "4",
      "stop-signal": "SIGQUIT",
      "stop-grace-period": "30s",
      "drain-timeout": "0",
      user: "www",
      workdir: "/srv",
      hostname: "w",
      entrypoint: "sh -c",
      mount: "type=bind,src=/a,dst=/b,ro",
      "read-only": "true",
      init: "true",
      tty: "true",
      "pull-policy": "always",
    });
    expect(violations(check)).toEqual([]);
    expect(spec.name).toBe("web");
    expect(spec.mode).toMatchObject({ $case: "replicated", value: { replicas: 6 } });
    expect(spec.ports.map(({ targetPort, publishedPort, name }) => [targetPort, publishedPort, name])).toEqual([
      [80, 8080, ""],
      [443, 8443, "https"],
      [9000, 0, ""],
    ]);
    expect(spec.labels).toEqual({ team: "blue", x: "" });
    expect(spec.task).toMatchObject({
      container: {
        env: ["A=3", "B=2", "HOME=/root"],
        labels: { c: "d" },
        command: ["sh", "-c"],
        user: "www",
        workingDir: "/srv",
        hostname: "w",
        mounts: [{ type: MountType.BIND, source: "/a", target: "/b", readOnly: true }],
        healthcheck: { test: ["CMD-SHELL", "curl -f http://localhost/"], intervalMs: 5000, retries: 4 },
        stopSignal: "SIGQUIT",
        stopGracePeriodMs: 30_000,
        readOnly: true,
        init: true,
        tty: true,
        pullPolicy: PullPolicy.ALWAYS,
      },
      reservations: { nanoCpus: 5e8, memoryBytes: 256 * 1024 ** 2, generic: {} },
      limits: { nanoCpus: 2e9, memoryBytes: 1024 ** 3, generic: {} },
      restart: { condition: RestartCondition.ON_FAILURE, delayMs: 2000, maxAttempts: 0, windowMs: 60_000 },
      placement: {
        constraints: ["node.labels.zone==eu"],
        maxReplicasPerNode: 2,
        preferences: [],
        affinities: [],
        strategy: PlacementStrategy.UNSPECIFIED,
      },
    });
    expect(spec.update).toMatchObject({
      parallelism: 0,
      delayMs: 1000,
      order: UpdateOrder.START_FIRST,
      monitorMs: 10_000,
      failureAction: FailureAction.ROLLBACK,
      maxFailureRatio: 0.25,
      minHealthyTimeMs: 3000,
      progressDeadlineMs: 300_000,
    });
    expect(spec.rollback).toMatchObject({ parallelism: 3, failureAction: FailureAction.CONTINUE });
    expect(spec.drainTimeoutMs).toBe(0);
  });

  it("report everything that is wrong at once", () => {
    const { check } = apply("create", {
      replicas: "-1",
      publish: ["x", "80"],
      "rollback-failure-action": "rollback",
      "health-cmd": "true",
      "no-healthcheck": "true",
    });
    expect(violations(check)).toEqual([
      "--replicas must be a whole number from 0 to 10000",
      "--publish must be [PUBLISHED:]TARGET[/tcp]",
      "--no-healthcheck contradicts --health-cmd",
      "--rollback-failure-action must be one of pause, continue",
    ]);
  });

  it("read environment files, which flags go before, and name the bad line", () => {
    const file = join(folder, "env");
    writeFileSync(file, "# comment\n\nA=1\r\nHOME\nB=x # y\n");
    expect(apply("create", { "env-file": file, env: "A=2" }).spec.task.container.env).toEqual([
      "A=2",
      "HOME=/root",
      "B=x # y",
    ]);
    writeFileSync(file, "A=1\n=bad\n");
    expect(violations(apply("create", { "env-file": file }).check)).toEqual([
      `--env-file ${file}:2 must be NAME=VALUE with a name without spaces`,
    ]);
    expect(violations(apply("create", { "env-file": join(folder, "none") }).check)[0]).toMatch(
      /cannot be read: ENOENT/,
    );
  });
});

describe("flags of service update", () => {
  const before = apply("create", {
    name: "web",
    replicas: "3",
    env: ["A=1", "B=2"],
    label: "team=blue",
    publish: "8080:80",
    expose: "80",
    constraint: "node.labels.zone == eu",
    mount: "src=data,dst=/data",
    init: "true",
    "health-cmd": "true",
  }).spec;

  it("change what they name and nothing else", () => {
    const { spec, notes } = apply(
      "update",
      {
        image: "nginx:2",
        args: "-g 'daemon off;'",
        "env-add": ["B=3", "C=4"],
        "env-rm": "A",
        "label-add": "x=y",
        "label-rm": "team",
        "publish-rm": "80",
        "publish-add": "9090:80",
        "constraint-rm": "node.labels.zone==eu",
        "mount-add": "type=tmpfs,dst=/data",
        "no-init": "true",
      },
      before,
    );
    expect(notes).toEqual([]);
    expect(spec.task.container).toMatchObject({
      image: "nginx:2",
      args: ["-g", "daemon off;"],
      env: ["B=3", "C=4"],
      init: false,
    });
    expect(spec.labels).toEqual({ x: "y" });
    expect(spec.ports.map(({ publishedPort, targetPort }) => [publishedPort, targetPort])).toEqual([
      [0, 80],
      [9090, 80],
    ]);
    expect(spec.task.placement.constraints).toEqual([]);
    expect(spec.task.container.mounts).toEqual([
      { type: MountType.TMPFS, source: "", target: "/data", readOnly: false, volumeDriver: "" },
    ]);
    expect(spec.mode).toMatchObject({ $case: "replicated", value: { replicas: 3 } });
    expect(spec.name).toBe("web");
    expect(before.task.container.env).toEqual(["A=1", "B=2"]);
  });

  it("say what was not there to remove", () => {
    const { notes } = apply("update", { "env-rm": ["A", "Z"], "publish-rm": "81", "label-rm": "toString" }, before);
    expect(notes.sort()).toEqual([
      "--env-rm Z: there was none",
      "--label-rm toString: there was none",
      "--publish-rm 81: there was none",
    ]);
  });

  it("replace the same port instead of having it twice", () => {
    const { spec } = apply("update", { "publish-add": "published=8080,target=80,name=http" }, before);
    expect(spec.ports.filter(({ publishedPort }) => publishedPort === 8080)).toMatchObject([{ name: "http" }]);
  });

  it("switch health checks off, on and back to the image's", () => {
    const off = apply("update", { "no-healthcheck": "true" }, before).spec;
    expect(off.task.container.healthcheck?.test).toEqual(["NONE"]);
    expect(apply("update", { "health-interval": "2s" }, off).spec.task.container.healthcheck).toMatchObject({
      test: [],
      intervalMs: 2000,
    });
    expect(apply("update", { "health-cmd": "" }, before).spec.task.container.healthcheck).toBeUndefined();
  });
});

describe("modes", () => {
  const modeOf = (given: Record<string, string | string[]>) => {
    const { spec, check } = apply("create", given);
    return { mode: spec.mode, wrong: violations(check) };
  };

  it("take Docker's flags and this one's own", () => {
    expect(modeOf({ mode: "global" })).toMatchObject({ mode: { $case: "global" }, wrong: [] });
    expect(modeOf({ mode: "global-job" })).toMatchObject({ mode: { $case: "globalJob" }, wrong: [] });
    for (const total of ["replicas", "completions"])
      expect(modeOf({ mode: "replicated-job", [total]: "9", "max-concurrent": "3" })).toMatchObject({
        mode: { $case: "replicatedJob", value: { completions: 9, maxConcurrent: 3 } },
        wrong: [],
      });
    expect(
      modeOf({
        cron: "*/5 * * * *",
        "cron-time-zone": "Europe/Paris",
        "cron-concurrency": "replace",
        "cron-keep-succeeded": "0",
        "cron-keep-failed": "9",
        "cron-start-deadline": "2m",
        "cron-suspended": "true",
        replicas: "2",
      }),
    ).toMatchObject({
      mode: {
        $case: "cron",
        value: {
          schedule: "*/5 * * * *",
          timeZone: "Europe/Paris",
          concurrency: ConcurrencyPolicy.REPLACE,
          keepSucceeded: 0,
          keepFailed: 9,
          startDeadlineMs: 120_000,
          suspended: true,
          completions: 2,
        },
      },
      wrong: [],
    });
    for (const mode of ["replicated-job", "cron"])
      expect(modeOf({ mode, cron: "@daily" })).toMatchObject({
        mode: { $case: "cron", value: { schedule: "@daily" } },
        wrong: [],
      });
  });

  it("refuse what another mode has", () => {
    expect(modeOf({ mode: "global", replicas: "3" }).wrong).toEqual([
      "--replicas is of services with a number of tasks, and the service is global",
    ]);
    expect(modeOf({ mode: "global", cron: "@daily" }).wrong).toEqual([
      "--cron contradicts --mode global: a schedule begins runs of replicated jobs",
    ]);
    expect(modeOf({ mode: "cron" }).wrong).toEqual(["--cron is needed: mode cron begins runs by a schedule"]);
    expect(modeOf({ mode: "swarm" }).wrong).toEqual([
      "--mode must be one of replicated, global, replicated-job, global-job, cron",
    ]);
    expect(modeOf({ mode: "replicated-job", replicas: "2", completions: "2" }).wrong).toEqual([
      "--replicas says for a job the same as --completions",
    ]);
    expect(modeOf({ "cron-keep-failed": "1", "max-concurrent": "2" }).wrong).toEqual([
      "--max-concurrent is of replicated jobs and cron services, and the service is replicated",
      "--cron-keep-failed is of cron services, and the service is replicated",
    ]);
  });

  it("stay in an update, whose flags change their parts", () => {
    const nightly = apply("create", { name: "n", cron: "@daily", "cron-suspended": "true" }).spec;
    const { spec, check } = apply(
      "update",
      { cron: "@hourly", "no-cron-suspended": "true", completions: "4" },
      nightly,
    );
    expect(violations(check)).toEqual([]);
    expect(spec.mode).toMatchObject({
      $case: "cron",
      value: { schedule: "@hourly", suspended: false, completions: 4 },
    });
    const web = apply("create", { name: "web" }).spec;
    expect(violations(apply("update", { cron: "@daily" }, web).check)).toEqual([
      "--cron is of cron services, and the service is replicated",
    ]);
  });
});

describe("scaling, order and placement", () => {
  it("go to their places", () => {
    const { spec, check } = apply("create", {
      autoscale: "min=2,max=10,cpu=60",
      "depends-on": ["db", "db", "cache"],
      "stop-after-disconnect": "5m",
      "placement-pref": ["spread=node.labels.zone", "spread=node.labels.rack"],
      affinity: "node.labels.disk==ssd,weight=10",
      "anti-affinity": ["service==web", "service==db,required"],
      "placement-strategy": "binpack",
      priority: "-5",
      "generic-resource": ["gpu=2", "fpga=1"],
      publish: "published=8080,target=80,mode=host",
      mount: "src=data,dst=/data,volume-driver=nfs",
      "update-max-surge": "2",
      "update-max-unavailable": "0",
      "rollback-max-surge": "1",
    });
    expect(violations(check)).toEqual([]);
    expect(spec).toMatchObject({
      // Nobody said how many: it begins within the bounds.
      mode: { $case: "replicated", value: { replicas: 2 } },
      autoscale: { min: 2, max: 10, cpuPercent: 60, memoryPercent: undefined, upCoolDownMs: undefined },
      dependsOn: ["db", "cache"],
      stopAfterDisconnectMs: 300_000,
      ports: [{ publishedPort: 8080, mode: PublishMode.HOST }],
      update: { maxSurge: 2, maxUnavailable: 0 },
      rollback: { maxSurge: 1 },
    });
    expect(spec.task.placement).toMatchObject({
      preferences: ["spread=node.labels.zone", "spread=node.labels.rack"],
      strategy: PlacementStrategy.BINPACK,
      affinities: [
        { expression: "node.labels.disk==ssd", weight: 10, required: false },
        { expression: "service==web", weight: -50, required: false },
        { expression: "service!=db", weight: 0, required: true },
      ],
    });
    expect(spec.task.priority).toBe(-5);
    expect(spec.task.reservations.generic).toEqual({ gpu: 2, fpga: 1 });
    expect(spec.task.container.mounts).toMatchObject([{ volumeDriver: "nfs" }]);
  });

  it("are added to, taken away and undone by updates", () => {
    const from = apply("create", {
      autoscale: "min=2,max=10,cpu=60",
      replicas: "4",
      "depends-on": "db",
      "stop-after-disconnect": "5m",
      "placement-pref": "spread=node.labels.zone",
      affinity: "node.labels.disk==ssd,weight=10",
      "anti-affinity": ["service==web", "service==db,required"],
      "generic-resource": "gpu=2",
    }).spec;
    const { spec, notes, check } = apply(
      "update",
      {
        autoscale: "min=6,max=20",
        "depends-on-rm": ["db", "nobody"],
        "depends-on-add": "cache",
        "no-stop-after-disconnect": "true",
        "placement-pref-rm": "spread = node.labels.zone",
        "placement-pref-add": "spread=node.labels.rack",
        "affinity-add": "node.labels.disk == ssd,weight=99",
        "anti-affinity-rm": ["service==web", "service==db"],
        "placement-strategy": "default",
        "generic-resource-rm": "gpu",
        "generic-resource-add": "fpga=1",
      },
      from,
    );
    expect(violations(check)).toEqual([]);
    expect(notes).toEqual([
      "replicas: 4 is outside of --autoscale; 6 from now on",
      "--depends-on-rm nobody: there was none",
    ]);
    expect(spec).toMatchObject({
      mode: { value: { replicas: 6 } },
      autoscale: { min: 6, max: 20, cpuPercent: 60 },
      dependsOn: ["cache"],
      stopAfterDisconnectMs: undefined,
    });
    expect(spec.task.placement).toMatchObject({
      preferences: ["spread=node.labels.rack"],
      affinities: [{ expression: "node.labels.disk==ssd", weight: 99 }],
      strategy: PlacementStrategy.UNSPECIFIED,
    });
    expect(spec.task.placement.affinities).toHaveLength(1);
    expect(spec.task.reservations.generic).toEqual({ fpga: 1 });
    expect(apply("update", { "no-autoscale": "true" }, from).spec.autoscale).toBeUndefined();
    const anew = apply("update", { "no-autoscale": "true", autoscale: "min=1,max=3,memory=70" }, from).spec.autoscale;
    expect(anew).toMatchObject({ min: 1, max: 3, cpuPercent: undefined, memoryPercent: 70 });
  });

  it("say which bound is missing", () => {
    expect(violations(apply("create", { autoscale: "max=3,cpu=60" }).check)).toEqual(["--autoscale must say min"]);
    expect(violations(apply("create", { autoscale: "min=3" }).check)).toEqual(["--autoscale must say max"]);
  });
});

describe("the table", () => {
  it("has each flag once per command, and each help is short enough for a line or two", () => {
    for (const command of ["create", "update"] as const) {
      const names = flagsOf(command).map(({ long }) => long);
      expect(new Set(names).size).toBe(names.length);
      const shorts = flagsOf(command).flatMap(({ short }) => short ?? []);
      expect(new Set(shorts).size).toBe(shorts.length);
    }
    for (const { flag } of serviceFlags) expect(flag.help.length, flag.long).toBeLessThan(110);
  });
});
