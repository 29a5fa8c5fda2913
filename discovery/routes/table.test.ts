import { describe, expect, it } from "vitest";
import { type Clock, seededRng } from "../../lib/mod.js";
import { Protocol, PublishMode, type Route } from "../../proto/mod.js";
import { Backend, type Candidate } from "./backend.js";
import { EndpointState, ejectAfterFailures, ejectForMs } from "./endpoint.js";
import { sampleEndpoint, sampleHost, sampleRoute } from "./samples.js";
import { RouteTable } from "./table.js";

function setUp(routes: Route[] = []) {
  let now = 0;
  let drains = 0;
  const clock: Clock = { now: () => now, monotonic: () => now, after: () => () => undefined };
  const table = new RouteTable(clock, () => (drains += 1));
  table.apply({ complete: true, host: sampleHost(), routes, removedRouteIds: [] });
  const change = (routes: Route[], removedRouteIds: string[] = []) =>
    table.apply({ complete: false, host: undefined, routes, removedRouteIds });
  const backend = (id = "s1") =>
    table.claims(id).find((claim) => claim.kind === "vip")?.backend ?? expect.fail("no VIP");
  return { table, change, backend, pass: (ms: number) => (now += ms), drained: () => drains };
}

describe("a route that was refused", () => {
  it("is in force once the name that it needs is free", () => {
    const { table, change } = setUp([sampleRoute()]);
    change([sampleRoute({ id: "s2", vip: "10.127.0.8" })]);
    expect(table.faults()).toHaveLength(1);
    expect(change([], ["s1"]).changed).toEqual(["s1", "s2"]);
    expect(table.faults()).toEqual([]);
    expect(table.claims("s2").map(({ address }) => address)).toEqual(["10.127.0.8"]);
    expect(table.service("web")?.vip).toBe(0x0a7f0008);
  });
});

describe("claims", () => {
  it("are the VIP, the published port, and the addresses of tasks elsewhere", () => {
    const { table } = setUp([
      sampleRoute({
        ports: [{ protocol: Protocol.TCP, targetPort: 80, publishedPort: 8080, name: "", mode: PublishMode.INGRESS }],
        endpoints: [
          sampleEndpoint(1),
          sampleEndpoint(2, { nodeId: "n2", address: "10.128.2.2", hostAddress: "192.168.0.2" }),
        ],
      }),
    ]);
    const claims = table
      .claims("s1")
      .map(({ kind, address, port, only }) => [kind, address, port, only?.host, only?.port]);
    expect(claims.sort((x, y) => (String(x[0]) < String(y[0]) ? -1 : 1))).toEqual([
      ["published", undefined, 8080, undefined, undefined],
      ["task", "10.128.2.2", 80, "192.168.0.2", 32_002],
      ["vip", "10.127.0.7", 80, undefined, undefined],
    ]);
  });

  it("leave a port of mode host to the engine of the task's host; by the VIP its endpoints are reached as ever", () => {
    const { table, backend } = setUp([
      sampleRoute({
        ports: [{ protocol: Protocol.TCP, targetPort: 80, publishedPort: 8080, name: "", mode: PublishMode.HOST }],
        endpoints: [
          sampleEndpoint(2, {
            nodeId: "n2",
            address: "10.128.2.2",
            hostAddress: "192.168.0.2",
            hostPorts: [{ protocol: Protocol.TCP, targetPort: 80, hostPort: 8080 }],
          }),
        ],
      }),
    ]);
    expect(table.claims("s1").map(({ kind }) => kind)).toEqual(["task", "vip"]);
    expect(backend().candidates.map(({ host, port }) => `${host}:${port}`)).toEqual(["192.168.0.2:8080"]);
  });

  it("reach own tasks by their address and others by their host", () => {
    const { backend } = setUp([
      sampleRoute({ endpoints: [sampleEndpoint(1), sampleEndpoint(2, { nodeId: "n2", hostAddress: "192.168.0.2" })] }),
    ]);
    expect(backend().candidates.map(({ host, port }) => `${host}:${port}`)).toEqual([
      "10.128.1.11:80",
      "192.168.0.2:32002",
    ]);
  });

  it("keep their backend across updates, and lose it with the route", () => {
    const { backend, change, table } = setUp([sampleRoute({ endpoints: [sampleEndpoint(1)] })]);
    const before = backend();
    change([sampleRoute({ endpoints: [sampleEndpoint(2)] })]);
    expect(backend()).toBe(before);
    expect(before.candidates.map((candidate) => candidate.endpoint.taskId)).toEqual(["t2"]);
    expect(change([], ["s1"]).changed).toEqual(["s1"]);
    expect(table.claims("s1")).toEqual([]);
    expect(before.candidates).toEqual([]);
  });
});

describe("updates", () => {
  it("keep what was learned of an endpoint, and forgive it when it moved", () => {
    const { backend, change } = setUp([sampleRoute({ endpoints: [sampleEndpoint(1)] })]);
    const state = backend().candidates[0]?.endpoint ?? expect.fail("no endpoint");
    state.begin();
    for (let i = 0; i < ejectAfterFailures; i += 1) state.connectFailed(0);
    change([sampleRoute({ endpoints: [sampleEndpoint(1), sampleEndpoint(2)] })]);
    expect(backend().candidates[0]?.endpoint).toBe(state);
    expect([state.active, state.ejected(0)]).toEqual([1, true]);
    change([sampleRoute({ endpoints: [sampleEndpoint(1, { address: "10.128.1.99" })] })]);
    expect([state.active, state.ejected(0)]).toEqual([1, false]);
  });

  it("that are complete remove what they do not name", () => {
    const { table } = setUp([sampleRoute(), sampleRoute({ id: "s2", serviceName: "db", vip: "10.127.0.8" })]);
    const { changed } = table.apply({ complete: true, host: undefined, routes: [sampleRoute()], removedRouteIds: [] });
    expect([...changed].sort()).toEqual(["s1", "s2"]);
    expect([table.service("web")?.name, table.service("db")]).toEqual(["web", undefined]);
  });

  it("with a wrong route keep the last good one and say why", () => {
    const { table, change } = setUp([sampleRoute()]);
    change([sampleRoute({ vip: "10.1.1.1" })]);
    expect(table.serviceOfVip(0x0a7f_0007)).toBe("web");
    expect(table.faults()).toEqual(['route "s1" of service "web": virtual IP "10.1.1.1" is not in 10.127.0.0/16']);
    change([sampleRoute()]);
    expect(table.faults()).toEqual([]);
  });

  it("never give one name to two services", () => {
    const { table, change } = setUp([sampleRoute()]);
    change([sampleRoute({ id: "s2", vip: "10.127.0.9" })]);
    expect(table.serviceOfVip(0x0a7f_0009)).toBeUndefined();
    expect(table.faults()).toHaveLength(1);
  });

  it("with a wrong host configuration keep the last good one", () => {
    const { table } = setUp([sampleRoute()]);
    table.apply({ complete: false, host: sampleHost({ subnet: "x" }), routes: [], removedRouteIds: [] });
    expect(table.host?.config.subnet).toBe("10.128.1.0/24");
    expect(table.faults()).toEqual(['host.subnet: "x" must be an IPv4 range such as 10.127.0.0/16']);
  });
});

describe("draining", () => {
  it("takes an endpoint out of the choice and the names, and counts its connections", () => {
    const { table, backend, change, drained } = setUp([
      sampleRoute({ endpoints: [sampleEndpoint(1), sampleEndpoint(2)] }),
    ]);
    const state = backend().candidates[0]?.endpoint ?? expect.fail("no endpoint");
    state.begin();
    expect([drained(), table.drains()]).toEqual([0, []]);
    change([
      sampleRoute({ endpoints: [sampleEndpoint(1, { draining: true }), sampleEndpoint(2, { draining: true })] }),
    ]);
    expect(backend().candidates).toEqual([]);
    expect(table.service("web")?.addresses).toEqual([]);
    expect(table.drains()).toEqual([
      { taskId: "t1", activeConnections: 1 },
      { taskId: "t2", activeConnections: 0 },
    ]);
    state.end();
    expect([drained(), table.drains()[0]?.activeConnections]).toEqual([1, 0]);
  });
});

describe("the choice of an endpoint", () => {
  const candidates = (count: number): Candidate[] =>
    Array.from({ length: count }, (_, i) => ({
      endpoint: new EndpointState({ taskId: `t${i}`, serviceName: "web", slot: i, revision: 1 }, () => undefined),
      host: "10.0.0.1",
      port: i + 1,
    }));

  it("evens out connections", () => {
    const backend = new Backend("web", 80);
    const all = candidates(5);
    backend.replace(all, 0);
    const rng = seededRng(1);
    for (let i = 0; i < 1_000; i += 1) backend.pick(0, rng)?.endpoint.begin();
    for (const { endpoint } of all) expect(Math.abs(endpoint.active - 200)).toBeLessThanOrEqual(3);
  });

  it("avoids the ejected until their time is over, and takes them when all are", () => {
    const backend = new Backend("web", 80);
    const all = candidates(3);
    backend.replace(all, 0);
    const rng = seededRng(2);
    const chosen = (now: number) => new Set(Array.from({ length: 200 }, () => backend.pick(now, rng)?.endpoint.taskId));
    const eject = (i: number) => {
      for (let k = 0; k < ejectAfterFailures; k += 1) all[i]?.endpoint.connectFailed(0);
    };
    eject(0);
    expect(chosen(0)).toEqual(new Set(["t1", "t2"]));
    eject(1);
    expect(chosen(0)).toEqual(new Set(["t2"]));
    eject(2);
    expect(chosen(0).size).toBeGreaterThan(0);
    for (const { endpoint } of all) endpoint.connected();
    eject(0);
    expect(all[0]?.endpoint.ejected(ejectForMs)).toBe(false);
  });

  it("never repeats an endpoint that was tried", () => {
    const backend = new Backend("web", 80);
    const all = candidates(2);
    backend.replace(all, 0);
    const first = backend.pick(0, seededRng(3)) ?? expect.fail("none");
    const second = backend.pick(0, seededRng(3), [first]) ?? expect.fail("none");
    expect(second).not.toBe(first);
    expect(backend.pick(0, seededRng(3), [first, second])).toBeUndefined();
  });
});
