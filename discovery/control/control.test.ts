// The control socket as the agent sees it: a real gRPC stream over a Unix socket.

import { once } from "node:events";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ClientDuplexStream, Server, ServerCredentials, credentials } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import { type Clock, type ClusterError, silentLogger, systemClock } from "../../lib/mod.js";
import {
  AmbassadorClient,
  type SteerRequest,
  type SteerResponse,
} from "../../proto/gen/flotilla/ambassador/v1/ambassador.js";
import { FakeClock } from "../../test/kit/clock.js";
import { sampleEndpoint, sampleHost, sampleRoute } from "../routes/samples.js";
import { RouteTable, type RouteUpdate } from "../routes/mod.js";
import { claimSocket } from "./instance.js";
import { RouteSaver, decodeSaved, encodeSaved, loadSaved } from "./saved.js";
import { Steering } from "./steer.js";

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "control-"));
  ends.push(() => rm(path, { recursive: true }));
  return path;
}

const update = (of: Partial<SteerRequest> = {}): SteerRequest => ({
  complete: true,
  host: sampleHost(),
  routes: [sampleRoute({ endpoints: [sampleEndpoint(1)] })],
  removedRouteIds: [],
  sequence: 1,
  ...of,
});

async function setUp(clock: Clock = systemClock) {
  const socket = join(await folder(), "a.sock");
  const onDrain = new Set<() => void>();
  const table = new RouteTable(clock, () => onDrain.forEach((fn) => fn()));
  const problems: string[] = [];
  const steering = new Steering({
    clock,
    log: silentLogger,
    applied: () => undefined,
    ambassador: {
      table,
      apply: (of: RouteUpdate) => Promise.resolve(void table.apply(of)),
      problems: () => problems,
      onDrain: (fn) => {
        onDrain.add(fn);
        return () => onDrain.delete(fn);
      },
      onProblems: () => () => undefined,
    },
  });
  const server = new Server();
  server.addService(steering.service.definition, steering.service.implementation);
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    ),
  );
  ends.push(() => server.forceShutdown());
  const stream = () => {
    const client = new AmbassadorClient(`unix:${socket}`, credentials.createInsecure());
    ends.push(() => client.close());
    const call: ClientDuplexStream<SteerRequest, SteerResponse> = client.steer();
    const failed = new Promise<{ code: number; details: string }>((resolve) =>
      call.on("error", (error) => resolve(error as unknown as { code: number; details: string })),
    );
    const next = async () => ((await once(call, "data")) as [SteerResponse])[0];
    return { call, failed, next };
  };
  return { table, stream, problems, listeners: onDrain };
}

describe("steering", () => {
  it("says what is applied, what drains, and what is wrong", async () => {
    const { stream, problems, table } = await setUp();
    const { call, next } = stream();
    problems.push("port 80 is taken");
    call.write(update());
    expect(await next()).toMatchObject({ appliedSequence: 1, drains: [], problems: ["port 80 is taken"] });
    call.write(
      update({
        complete: false,
        host: undefined,
        routes: [sampleRoute({ endpoints: [sampleEndpoint(1, { draining: true })] })],
        sequence: 2,
      }),
    );
    expect(await next()).toMatchObject({ appliedSequence: 2, drains: [{ taskId: "t1", activeConnections: 0 }] });
    const [endpoint] = table.endpoints();
    // Many changes at once come back as one message with the last state.
    for (let i = 0; i < 100; i += 1) endpoint?.begin();
    expect(await next()).toMatchObject({ drains: [{ taskId: "t1", activeConnections: 100 }] });
  });

  it("says every 15 s what endpoints were given since the time before", async () => {
    const clock = new FakeClock();
    const { stream, table } = await setUp(clock);
    const { call, next } = stream();
    call.write(update());
    expect(await next()).toMatchObject({ appliedSequence: 1, carried: undefined });
    const [endpoint] = table.endpoints();
    for (let i = 0; i < 3; i += 1) endpoint?.connected();
    const told = next();
    await clock.advance(15_000);
    expect((await told).carried).toMatchObject({ overMs: 15_000, counts: [{ taskId: "t1", connections: 3 }] });
    const again = next();
    await clock.advance(15_000);
    expect((await again).carried).toMatchObject({ overMs: 15_000, counts: [] });
  });

  it("belongs to the newest stream", async () => {
    const { stream, table, listeners } = await setUp();
    const old = stream();
    old.call.write(update());
    await old.next();
    const young = stream();
    young.call.write(update({ routes: [] }));
    await young.next();
    expect(await old.failed).toMatchObject({ code: 10, details: "a newer stream took over" });
    expect([table.routes, listeners.size]).toEqual([[], 1]);
  });

  it("keeps the routes when its stream ends", async () => {
    const { stream, table, listeners } = await setUp();
    const { call, next } = stream();
    call.write(update());
    await next();
    call.end();
    await once(call, "status");
    expect([table.routes.length, listeners.size]).toEqual([1, 0]);
  });

  it.each([
    ["changes before everything", update({ complete: false }), "the first message of a stream must be complete"],
    ["no host configuration", update({ host: undefined }), "the first message must carry the host's configuration"],
  ])("refuses %s", async (_, request, details) => {
    const { call, failed } = (await setUp()).stream();
    call.write(request);
    expect(await failed).toMatchObject({ code: 3, details });
  });
});

describe("saved routes", () => {
  it("come back as they were", async () => {
    const path = join(await folder(), "routes.bin");
    const saver = new RouteSaver({ path, clock: systemClock, log: silentLogger, state: () => update() });
    saver.changed();
    await saver.flush();
    const saved = await loadSaved(path, silentLogger);
    expect(saved?.routes.map((route) => [route.id, route.endpoints.length])).toEqual([["s1", 1]]);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
  });

  it("that are cut or changed anywhere are not believed", () => {
    const file = encodeSaved(update());
    expect(decodeSaved(file)).toBeDefined();
    for (let i = 0; i < file.length; i += 1) {
      expect(decodeSaved(file.subarray(0, i))).toBeUndefined();
      const changed = Buffer.from(file);
      changed.writeUInt8(changed.readUInt8(i) ^ 1, i);
      expect(decodeSaved(changed)).toBeUndefined();
    }
  });

  it("that are missing or damaged are none", async () => {
    const path = join(await folder(), "routes.bin");
    expect(await loadSaved(path, silentLogger)).toBeUndefined();
    await writeFile(path, "junk");
    expect(await loadSaved(path, silentLogger)).toBeUndefined();
  });
});

describe("one ambassador per data directory", () => {
  it("a socket that somebody serves is left alone, by name and pid", async () => {
    const at = await folder();
    const [socket, pid] = [join(at, "a.sock"), join(at, "a.pid")];
    const server = createServer().listen(socket);
    await once(server, "listening");
    ends.push(() => void server.close());
    await writeFile(pid, "4242\n");
    const error = (await claimSocket(socket, pid, systemClock).catch((e: unknown) => e)) as ClusterError;
    expect([error.code, error.message]).toEqual([
      "already_exists",
      `another ambassador (pid 4242) serves ${socket}: stop it first, or use another --data-dir`,
    ]);
    expect((await stat(socket)).isSocket()).toBe(true);
  });

  it("what a killed one left behind is removed", async () => {
    const at = await folder();
    const socket = join(at, "a.sock");
    await writeFile(socket, "");
    await claimSocket(socket, join(at, "a.pid"), systemClock);
    await expect(readFile(socket)).rejects.toThrow("ENOENT");
  });
});
