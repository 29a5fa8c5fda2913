// What the flags make must be what the managers take: the same check, on both sides of the wire.

import { describe, expect, it } from "vitest";
import { checkServiceSpec } from "../../deploy/spec/mod.js";
import { ServiceSpec } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { FlagReader } from "./reader.js";
import { applyFlags, emptySpec } from "./service.js";

type Words = Record<string, string | string[]>;

function apply(command: "create" | "update", given: Words, from: ServiceSpec): ServiceSpec {
  const flags = new FlagReader(new Map(Object.entries(given).map(([flag, value]) => [flag, [value].flat()])));
  const spec = applyFlags(from, command, { flags, env: {}, checkMode: true, note: () => undefined });
  flags.check();
  if (command === "create") spec.task.container.image = "nginx:1";
  return spec;
}

/** As the managers get it and keep it: through the wire, checked, and defaults filled in. */
function stored(spec: ServiceSpec): ServiceSpec {
  const checked = checkServiceSpec(ServiceSpec.decode(ServiceSpec.encode(spec).finish()));
  if ("violations" in checked)
    throw new Error(checked.violations.map(({ field, value, rule }) => `${field}: ${value} ${rule}`).join("; "));
  return ServiceSpec.fromPartial(checked.spec);
}

const placed: Words = {
  constraint: ["node.labels.zone in (a,b)", "node.labels.cores>4"],
  "placement-strategy": "binpack",
  affinity: ["node.labels.disk==ssd,weight=10", "service==db"],
  "anti-affinity": ["service==web", "service==api,required", "node.labels.zone in (c,d),required"],
  priority: "-5",
  "reserve-cpu": "0.5",
  "reserve-memory": "64m",
  "generic-resource": "gpu=2",
  mount: "src=data,dst=/data,volume-driver=nfs",
  "depends-on": ["db", "cache"],
  "stop-after-disconnect": "5m",
};

const specs: Record<string, Words> = {
  replicated: { replicas: "3", publish: "8080:80", "placement-pref": "spread=node.labels.zone", ...placed },
  "host ports": { publish: "published=8080,target=80,mode=host", "replicas-max-per-node": "1" },
  autoscaled: { ...placed, autoscale: "min=2,max=10,cpu=60,memory=80,requests=100,up-cool-down=15s,down-cool-down=5m" },
  global: { mode: "global", publish: "8080:80", ...placed },
  "replicated job": { mode: "replicated-job", completions: "9", "max-concurrent": "3", ...placed },
  "job by Docker's words": { mode: "replicated-job", replicas: "9", "max-concurrent": "3" },
  "global job": { mode: "global-job", ...placed },
  cron: {
    ...placed,
    cron: "*/5 * * * *",
    "cron-time-zone": "Europe/Paris",
    "cron-concurrency": "replace",
    "cron-keep-succeeded": "0",
    "cron-keep-failed": "9",
    "cron-start-deadline": "2m",
    "cron-suspended": "true",
    completions: "2",
  },
  surge: { replicas: "3", "update-order": "start-first", "update-max-surge": "2", "update-max-unavailable": "0" },
};

describe("specs made of flags", () => {
  it.each(Object.entries(specs))("%s: is taken, and taken again after an update of something else", (_, given) => {
    const before = stored(apply("create", { name: "x", ...given }, emptySpec()));
    const after = stored(apply("update", { image: "nginx:2", "label-add": "a=b" }, before));
    expect(after.task?.container?.image).toBe("nginx:2");
    const others = ({ mode, ports, autoscale, dependsOn, update, rollback, stopAfterDisconnectMs }: ServiceSpec) => {
      return { mode, ports, autoscale, dependsOn, update, rollback, stopAfterDisconnectMs };
    };
    expect(others(after)).toEqual(others(before));
    expect(after.task?.placement).toEqual(before.task?.placement);
  });

  it("have their lists changed by what they were written as, however the managers keep it", () => {
    const before = stored(apply("create", { name: "x", ...placed }, emptySpec()));
    const after = apply(
      "update",
      {
        "constraint-rm": "node.labels.cores > 4",
        "affinity-rm": ["node.labels.disk == ssd", "service == db"],
        "anti-affinity-rm": ["service==web", "service == api", "node.labels.zone in ( c , d )"],
        "generic-resource-rm": "gpu",
        "depends-on-rm": "cache",
        "mount-rm": "/data",
      },
      before,
    );
    expect(after.task?.placement?.affinities).toEqual([]);
    expect(after.task?.placement?.constraints).toEqual(["node.labels.zone in (a,b)"]);
    expect(after.task?.reservations?.generic).toEqual({});
    expect(after.task?.container?.mounts).toEqual([]);
    expect(after.dependsOn).toEqual(["db"]);
  });
});
