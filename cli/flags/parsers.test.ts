import { describe, expect, it } from "vitest";
import { MountType, Protocol, PublishMode } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { mount } from "./mounts.js";
import * as as from "./parsers.js";
import { autoscale } from "./autoscale.js";
import { affinity, genericResource, preference } from "./placement.js";
import { exposedPort, publishedPort } from "./ports.js";
import type { Parser } from "./reader.js";

const port = (targetPort: number, publishedPort: number, name = "", mode: PublishMode = PublishMode.INGRESS) => ({
  protocol: Protocol.TCP,
  targetPort,
  publishedPort,
  name,
  mode,
});

function table(name: string, parse: Parser<unknown>, good: Record<string, unknown>, bad: Record<string, RegExp>) {
  describe(name, () => {
    it.each(Object.entries(good))("takes %s", (text, value) => {
      expect(parse(text)).toEqual({ ok: value });
    });
    it.each(Object.entries(bad))("refuses %j with the rule", (text, rule) => {
      const parsed = parse(text) as { rule: string; fix: string };
      expect(parsed.rule).toMatch(rule);
      expect(parsed.fix).not.toBe("");
    });
  });
}

table(
  "replicas",
  as.replicas,
  { "0": 0, "10000": 10_000 },
  { "-1": /whole number/, "1.5": /whole/, "": /whole/, "10001": /0 to 10000/, "1e3": /whole/, "0x10": /whole/ },
);
table(
  "duration",
  as.duration,
  { "1m30s": 90_000, "500ms": 500, "0": 0 },
  { "10": /duration/, "-1s": /duration/, s: /duration/, "1200h": /49 days/ },
);
table(
  "bytes",
  as.bytes,
  { "512m": 512 * 1024 ** 2, "1.5g": 1.5 * 1024 ** 3, "100": 100 },
  { "5x": /size/, "-1": /size/, "": /size/, "99999999999g": /at most 8191 TiB/ },
);
table("cpus", as.cpus, { "0.5": 5e8, "2": 2e9 }, { "1/2": /cores/, "-1": /cores/, "0.0000000001": /cores/ });
table("ratio", as.ratio, { "0": 0, "0.2": 0.2, "1": 1, ".5": 0.5 }, { "1.1": /0 to 1/, "20%": /0 to 1/, "": /0 to 1/ });
table(
  "label",
  as.label,
  { "zone=eu": ["zone", "eu"], "a.b/c-d=": ["a.b/c-d", ""], lone: ["lone", ""], "k=v=w": ["k", "v=w"] },
  { "=x": /KEY=VALUE/, "a b=c": /KEY=VALUE/, "-a=b": /KEY=VALUE/ },
);
table("labelKey", as.labelKey, { zone: "zone" }, { "zone=eu": /without a value/, "": /KEY/ });
table(
  "address",
  as.address(7400),
  {
    "10.0.0.1": "10.0.0.1:7400",
    "h1:80": "h1:80",
    "[fd00::1]:1": "[fd00::1]:1",
    "[::1]": "[::1]:7400",
    "h1:0": "h1:0",
  },
  {
    "": /HOST/,
    ":80": /HOST/,
    "h1:99999": /HOST/,
    "h1:": /HOST/,
    "fd00::1": /HOST/,
    "[xyz]:1": /HOST/,
    "a b:1": /HOST/,
    "http://h1:80": /HOST/,
  },
);
table(
  "list",
  as.listOf(as.address(), "fix"),
  { "a:1,b:2": ["a:1", "b:2"], "a:1, a:1": ["a:1"] },
  { "a:1,": /empty places/, "a:1,b": /has "b", which must be/ },
);
table(
  "url",
  as.url,
  {
    "http://10.0.0.1:2379": "http://10.0.0.1:2379",
    "10.0.0.1:2379": "http://10.0.0.1:2379",
    "https://e/": "https://e",
  },
  { "": /URL/, "ftp://x": /URL/, "http://": /URL/ },
);
table(
  "env",
  as.env({ HOME: "/root" }),
  { "A=b=c": "A=b=c", "A=": "A=", HOME: "HOME=/root", UNSET: undefined },
  { "=x": /NAME=VALUE/, "A B=1": /NAME=VALUE/, "": /NAME/, "A=\0": /NAME/ },
);
table(
  "published port",
  publishedPort,
  {
    "8080:80": port(80, 8080),
    "80": port(80, 80),
    "8080:80/tcp": port(80, 8080),
    "published=8080,target=80,protocol=tcp,name=http": port(80, 8080, "http"),
    "target=80": port(80, 80),
    "target=80,published=80,mode=ingress": port(80, 80),
    "published=8080,target=80,mode=host": port(80, 8080, "", PublishMode.HOST),
  },
  {
    "": /PUBLISHED/,
    "0:80": /published port 0, which must be a whole number from 1/,
    "8080:0": /target port 0/,
    "99999:80": /published port 99999/,
    "8080:80/udp": /only tcp/,
    "8080-8082:80": /PUBLISHED/,
    "published=80": /no target port/,
    "target=80,target=81": /says target twice/,
    "target=80,mode=hosts": /mode=hosts, which must be ingress .* or host/,
    "target=80,colour=red": /"colour"/,
    target: /PUBLISHED/,
    "1.2.3.4:80:80": /PUBLISHED/,
  },
);
table(
  "exposed port",
  exposedPort,
  { "80": port(80, 0), "target=80,name=http": port(80, 0, "http") },
  { "8080:80": /TARGET/, "published=8080,target=80": /"published"/, "65536": /65536/ },
);
table(
  "mount",
  mount,
  {
    "type=bind,src=/a,dst=/b,ro": {
      type: MountType.BIND,
      source: "/a",
      target: "/b",
      readOnly: true,
      volumeDriver: "",
    },
    "src=data,dst=/b,volume-driver=nfs": {
      type: MountType.VOLUME,
      source: "data",
      target: "/b",
      readOnly: false,
      volumeDriver: "nfs",
    },
    "src=data,dst=/b": { type: MountType.VOLUME, source: "data", target: "/b", readOnly: false, volumeDriver: "" },
    "type=tmpfs,target=/t,readonly=false": {
      type: MountType.TMPFS,
      source: "",
      target: "/t",
      readOnly: false,
      volumeDriver: "",
    },
  },
  {
    "type=nfs,dst=/b": /type=nfs/,
    "type=constructor,dst=/b": /type=constructor/,
    "src=data": /target/,
    "src=data,dst=b": /absolute/,
    "type=bind,src=a,dst=/b": /source/,
    "type=tmpfs,src=/a,dst=/b": /no source/,
    "src=a,source=b,dst=/b": /source twice/,
    "src,dst=/b": /without a value/,
    "dst=/b,ro=maybe": /readonly=maybe/,
    "type=tmpfs,dst=/t,volume-driver=nfs": /only volumes have, and is a tmpfs/,
    "src=data,dst=/b,volume-driver=": /empty volume-driver/,
  },
);
table(
  "placement preference",
  preference,
  { "spread=node.labels.zone": "spread=node.labels.zone", " spread = node.hostname ": "spread=node.hostname" },
  { "node.labels.zone": /spread=/, "binpack=node.labels.zone": /spread=/, "spread=": /spread=/ },
);
const wish = (expression: string, weight: number, required = false) => ({ expression, weight, required });
table(
  "affinity",
  affinity("affinity"),
  {
    "node.labels.disk==ssd": wish("node.labels.disk==ssd", 50),
    "node.labels.disk == ssd , weight=10": wish("node.labels.disk==ssd", 10),
    "service==db,required": wish("service==db", 0, true),
    "node.labels.zone in (a,b),weight=100": wish("node.labels.zone in (a,b)", 100),
  },
  {
    "": /expression/,
    ",weight=5": /expression/,
    "node.labels.disk": /must be/,
    "service==db,weight=0": /weight that must be a whole number from 1 to 100/,
    "service==db,weight=-5": /weight/,
    "service==db,weight=5,required": /one of weight=N and required/,
    "service==db,weight=5,colour=red": /must end with weight=N or required/,
    "service>db": /must be/,
  },
);
table(
  "anti-affinity",
  affinity("anti-affinity"),
  {
    "service==web": wish("service==web", -50),
    "service==web,weight=7": wish("service==web", -7),
    "service==web,required": wish("service!=web", 0, true),
    "service!=web,required": wish("service==web", 0, true),
    "node.labels.zone in (a,b),required": wish("node.labels.zone notin (a,b)", 0, true),
    "node.hostname!=h1,required": wish("node.hostname==h1", 0, true),
  },
  { "node.labels.cores>8,required": /must not compare with > or </ },
);
table(
  "generic resource",
  genericResource,
  { "gpu=2": ["gpu", 2], "NVIDIA-GPU=1": ["NVIDIA-GPU", 1], "nvidia.com/gpu=1": ["nvidia.com/gpu", 1] },
  { gpu: /NAME=N/, "gpu=0": /whole number from 1/, "gpu=-1": /whole number/, "=2": /NAME=N/, "gpu=two": /"two"/ },
);
table(
  "autoscale",
  autoscale,
  {
    "min=2,max=10,cpu=60": { min: 2, max: 10, cpuPercent: 60 },
    "cpu=60%": { cpuPercent: 60 },
    "memory=80,requests=100,up-cool-down=15s,down-cool-down=5m": {
      memoryPercent: 80,
      requestsPerReplica: 100,
      upCoolDownMs: 15_000,
      downCoolDownMs: 300_000,
    },
  },
  {
    "": /none of min, max/,
    "min=5,max=2": /min=5 above max=2/,
    "min=-1": /min=-1/,
    "cpu=0": /from 1 to 1000/,
    "disk=5": /"disk"/,
    "up-cool-down=5": /up-cool-down=5, which must be a duration/,
  },
);
table(
  "signed integer",
  as.integer(-1000, 1000, "100"),
  { "-5": -5, "1000": 1000 },
  { "-1001": /-1000/, "+5": /whole/ },
);
table(
  "words",
  as.words,
  {
    "": [],
    "sh -c 'echo $A b'": ["sh", "-c", "echo $A b"],
    'a "b \\" c" d\\ e': ["a", 'b " c', "d e"],
    "''": [""],
    'a"b"c': ["abc"],
  },
  { "'open": /not closed/, "end\\": /backslash/ },
);
table(
  "moment",
  as.moment(1_000_000_000_000),
  {
    "10m": 1_000_000_000_000 - 600_000,
    "2026-01-31T12:00:00Z": Date.UTC(2026, 0, 31, 12),
    "1767225600": 1_767_225_600_000,
    "1767225600.5": 1_767_225_600_500,
  },
  { yesterday: /time/, "2026-13-01": /time/, "": /time/ },
);
