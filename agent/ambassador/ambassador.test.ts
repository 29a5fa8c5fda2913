// The keeping and steering of an ambassador, against a small one: a gRPC server on the socket, in this process or as
// one of its own.

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Server, ServerCredentials, type ServerDuplexStream } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { silentLogger, systemClock, systemRng } from "../../lib/mod.js";
import {
  AmbassadorService,
  type HostConfig,
  type SteerRequest,
  type SteerResponse,
} from "../../proto/gen/flotilla/ambassador/v1/ambassador.js";
import type { Route } from "../../proto/mod.js";
import { AmbassadorProcess, Steering } from "./mod.js";

let dataDir: string;
let controller: AbortController;
const servers: Server[] = [];
const pids: number[] = [];

beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), "flotilla-steer-"));
  controller = new AbortController();
});
afterEach(() => {
  controller.abort(new Error("the test ended"));
  for (const server of servers.splice(0)) server.forceShutdown();
  for (const pid of pids.splice(0)) process.kill(pid, "SIGKILL");
  rmSync(dataDir, { recursive: true, force: true });
});

const host: HostConfig = {
  nodeId: "n1",
  gateway: "10.128.1.1",
  subnet: "10.128.1.0/24",
  vipPool: "10.127.0.0/16",
  nodePool: "10.128.0.0/10",
  domain: "flotilla.internal",
  dnsAddress: "10.127.0.53",
  nodeAddresses: {},
};

const route = (id: string, vip = "10.127.0.1"): Route => ({ id, serviceName: id, vip, ports: [], endpoints: [] });

class SmallAmbassador {
  readonly requests: SteerRequest[] = [];
  streams = 0;
  stream: ServerDuplexStream<SteerRequest, SteerResponse> | undefined;

  async listen(): Promise<Server> {
    const server = new Server();
    server.addService(AmbassadorService, {
      steer: (call: ServerDuplexStream<SteerRequest, SteerResponse>) => {
        this.streams += 1;
        this.stream = call;
        call.on("error", () => undefined);
        call.on("data", (request: SteerRequest) => {
          this.requests.push(request);
          call.write({ appliedSequence: request.sequence, drains: [], problems: [], carried: undefined });
        });
      },
    });
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`unix:${join(dataDir, "ambassador.sock")}`, ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      );
    });
    servers.push(server);
    return server;
  }
}

function make(command: readonly string[] = ["/no/such/program"]) {
  const drains: [string, number][] = [];
  const common = { clock: systemClock, rng: systemRng, log: silentLogger };
  const steering = new Steering({
    ...common,
    process: new AmbassadorProcess({ ...common, command, dataDir }),
    onDrain: (taskId, active) => drains.push([taskId, active]),
    onProblems: () => undefined,
  });
  return { steering, drains };
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const endMs = performance.now() + 15_000;
  while (!holds()) {
    if (performance.now() > endMs) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

describe("steering", () => {
  test("nothing is said before the managers have said everything; then everything, then changes", async () => {
    const ambassador = new SmallAmbassador();
    await ambassador.listen();
    const { steering } = make();
    const running = steering.run(controller.signal);
    await until("the stream is open", () => ambassador.streams === 1);
    steering.configure(host);
    steering.route(false, [route("early")], []);
    expect(ambassador.requests).toEqual([]);
    steering.route(true, [route("a"), route("b")], []);
    await until("the first", () => ambassador.requests.length === 1);
    expect(ambassador.requests[0]).toMatchObject({ complete: true, host: { nodeId: "n1" }, sequence: 1 });
    expect(ambassador.requests[0]?.routes.map(({ id }) => id).sort()).toEqual(["a", "b"]);
    await until("steered", () => steering.connected);
    steering.route(false, [route("b", "10.127.0.9")], ["a"]);
    await until("the change", () => ambassador.requests.length === 2);
    expect(ambassador.requests[1]).toMatchObject({
      complete: false,
      routes: [{ id: "b", vip: "10.127.0.9" }],
      removedRouteIds: ["a"],
      sequence: 2,
    });
    expect(ambassador.requests[1]?.host).toBeUndefined();
    controller.abort(new Error("the test ended"));
    await running;
  });

  test("a stream that breaks is opened again, and begins with everything", async () => {
    const ambassador = new SmallAmbassador();
    const server = await ambassador.listen();
    const { steering } = make();
    const running = steering.run(controller.signal);
    steering.configure(host);
    steering.route(true, [route("a")], []);
    await until("the first", () => ambassador.requests.length === 1);
    server.forceShutdown();
    await until("noticed", () => !steering.connected);
    steering.route(false, [route("b")], []);
    rmSync(join(dataDir, "ambassador.sock"), { force: true });
    const next = new SmallAmbassador();
    await next.listen();
    await until("everything again", () => next.requests.length > 0);
    expect(next.requests[0]).toMatchObject({ complete: true, host: { nodeId: "n1" } });
    expect(next.requests[0]?.routes.map(({ id }) => id)).toEqual(["a", "b"]);
    controller.abort(new Error("the test ended"));
    await running;
  });

  test("connections of draining endpoints are told when they change, and known for the next session", async () => {
    const ambassador = new SmallAmbassador();
    await ambassador.listen();
    const { steering, drains } = make();
    const running = steering.run(controller.signal);
    steering.configure(host);
    steering.route(true, [], []);
    await until("steered", () => steering.connected);
    const say = (active: number) =>
      ambassador.stream?.write({
        appliedSequence: 1,
        drains: [{ taskId: "t1", activeConnections: active }],
        problems: [],
        carried: undefined,
      });
    say(2);
    say(2);
    say(0);
    await until("told", () => drains.length === 2);
    expect(drains).toEqual([
      ["t1", 2],
      ["t1", 0],
    ]);
    expect(steering.drains()).toEqual([["t1", 0]]);
    // What it carried comes in some messages only; the others do not unsay it.
    const counts = [{ taskId: "t1", connections: 30 }];
    ambassador.stream?.write({ appliedSequence: 1, drains: [], problems: [], carried: { overMs: 15_000, counts } });
    await until("counted", () => steering.requests().get("t1") === 2_000);
    say(1);
    await until("told", () => drains.length === 3);
    expect(steering.requests().get("t1")).toBe(2_000);
    controller.abort(new Error("the test ended"));
    await running;
  });

  test("an end that comes while the ambassador is looked for is not missed", async () => {
    await new SmallAmbassador().listen();
    const common = { clock: systemClock, rng: systemRng, log: silentLogger };
    const process = new AmbassadorProcess({ ...common, command: ["/no/such/program"], dataDir });
    process.ensure = async () => {
      await Promise.resolve();
      controller.abort(new Error("the agent ends"));
    };
    const steering = new Steering({ ...common, process, onDrain: () => undefined, onProblems: () => undefined });
    await steering.run(controller.signal);
    expect(steering.connected).toBe(false);
  });
});

describe("the process", () => {
  const program = (dir: string) => {
    const path = join(dir, "small.mjs");
    writeFileSync(
      path,
      `import { createServer } from "node:net";
       import { appendFileSync } from "node:fs";
       const dir = process.argv[process.argv.indexOf("--data-dir") + 1];
       appendFileSync(dir + "/pids", process.pid + "\\n");
       console.log("small ambassador");
       createServer(() => {}).listen(dir + "/ambassador.sock");`,
    );
    return [process.execPath, path, "ambassador"];
  };
  const started = () =>
    existsSync(join(dataDir, "pids")) ? readFileSync(join(dataDir, "pids"), "utf8").trim().split("\n").map(Number) : [];
  const make = (command: readonly string[]) =>
    new AmbassadorProcess({ command, dataDir, clock: systemClock, log: silentLogger });

  test("one is started when there is none, adopted when there is one, and its output is kept", async () => {
    const command = program(dataDir);
    await make(command).ensure(controller.signal);
    pids.push(...started());
    expect(started()).toHaveLength(1);
    // As another agent would, after a restart.
    await make(command).ensure(controller.signal);
    expect(started()).toHaveLength(1);
    expect(readFileSync(join(dataDir, "ambassador.log"), "utf8")).toContain("small ambassador");
  });

  test("one that died is started again", async () => {
    const keeper = make(program(dataDir));
    await keeper.ensure(controller.signal);
    const [first = 0] = started();
    process.kill(first, "SIGKILL");
    rmSync(join(dataDir, "ambassador.sock"), { force: true });
    await until("another", () => {
      void keeper.ensure(controller.signal).catch(() => undefined);
      return started().length === 2;
    });
    pids.push(...started().slice(1));
  });

  test("one that cannot be started says where to look", async () => {
    await expect(make(["/no/such/program"]).ensure(controller.signal)).rejects.toThrow(/ambassador\.log/);
  });
});
