import { expect, test } from "vitest";
import { ClusterError } from "../lib/mod.js";
import { type AgentOptions, checkOptions, splitHostPort } from "./options.js";

const good: AgentOptions = {
  dataDir: "/var/lib/flotilla",
  managers: ["10.0.0.1:7400", "manager-2:7400", "[::1]:7400"],
  hostname: "h1",
  advertiseAddr: "10.0.0.2",
  docker: "unix:///run/docker.sock",
  httpListen: "127.0.0.1:7402",
  labels: { zone: "eu", "example.com/rack": "" },
  generic: { gpu: 2, "example.com/fpga": 1 },
  logLevel: "info",
  ambassadorCommand: [],
  managerCommand: [],
};

test("good options pass", () => {
  expect(() => checkOptions(good)).not.toThrow();
});

test.each([
  ["data-dir", { dataDir: "relative" }],
  ["managers", { managers: [] }],
  ["managers", { managers: ["10.0.0.1"] }],
  ["managers", { managers: ["10.0.0.1:0"] }],
  ["managers", { managers: ["10.0.0.1:99999"] }],
  ["managers", { managers: ["http://10.0.0.1:7400"] }],
  ["advertise-addr", { advertiseAddr: "0.0.0.0" }],
  ["advertise-addr", { advertiseAddr: "host" }],
  ["docker", { docker: "tcp://10.0.0.1:2375" }],
  ["docker", { docker: "/run/docker.sock" }],
  ["http-listen", { httpListen: "7402" }],
  ["hostname", { hostname: "a b" }],
  ["hostname", { hostname: "-a" }],
  ["label", { labels: { "a b": "c" } }],
  ["generic-resource", { generic: { "a b": 1 } }],
  ["generic-resource", { generic: { gpu: 0 } }],
  ["generic-resource", { generic: { gpu: 1.5 } }],
  ["generic-resource", { generic: { gpu: 1_000_001 } }],
])("bad %s is refused with its field: %j", (field, changes) => {
  try {
    checkOptions({ ...good, ...changes });
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(ClusterError);
    expect((thrown as ClusterError).violations.map((violation) => violation.field)).toEqual([field]);
    return;
  }
  throw new Error("it was taken");
});

test("everything wrong is said at once", () => {
  expect(() => checkOptions({ ...good, dataDir: "x", docker: "y", httpListen: "z" })).toThrow(
    /data-dir:.*\n.*docker:.*\n.*http-listen:/,
  );
});

test("host and port are split", () => {
  expect(splitHostPort("127.0.0.1:7402")).toEqual({ host: "127.0.0.1", port: 7402 });
  expect(splitHostPort("[::1]:80")).toEqual({ host: "::1", port: 80 });
});
