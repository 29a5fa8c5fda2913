// The tcp proxy on loopback with real sockets and the real clock; nothing here asserts how long anything took.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, type Server, type Socket, connect, createServer } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { silentLogger, systemClock, systemRng } from "../../lib/mod.js";
import { type Endpoint, Protocol, PublishMode } from "../../proto/mod.js";
import { Ambassador } from "../ambassador.js";
import { sampleEndpoint, sampleHost, sampleRoute } from "../routes/samples.js";

const vip = "127.77.0.7";
const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

const until = async (what: string, holds: () => boolean) => {
  for (let i = 0; i < 500; i += 1) {
    if (holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  expect.fail(`never: ${what}`);
};

async function backend(
  serve: (socket: Socket) => void,
): Promise<{ port: number; server: Server; sockets: Set<Socket> }> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => undefined);
    serve(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  ends.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, server, sockets };
}

const greet = (name: string) => (socket: Socket) => {
  socket.on("data", () => undefined);
  socket.on("end", () => socket.end());
  socket.write(name);
};
const echo = (socket: Socket) => void socket.pipe(socket);

/** A port where nobody listens. */
async function closedPort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** A port that takes no connection and refuses none: its process never accepts, and its queue is full. */
async function silentPort(): Promise<number> {
  const program = `
    const server = require("node:net").createServer().listen({ port: 0, host: "127.0.0.1", backlog: 1 }, () => {
      require("node:fs").writeSync(1, String(server.address().port));
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    });`;
  const child = spawn(process.execPath, ["-e", program], { stdio: ["ignore", "pipe", "inherit"] });
  ends.push(() => void child.kill("SIGKILL"));
  const port = Number(String(((await once(child.stdout, "data")) as [Buffer])[0]));
  for (let i = 0; i < 4; i += 1) {
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => undefined);
    ends.push(() => void socket.destroy());
  }
  return port;
}

async function setUp(connectionsMax = 1_000) {
  const port = await closedPort();
  const ambassador = new Ambassador({
    clock: systemClock,
    rng: systemRng,
    log: silentLogger,
    connectionsMax,
    dnsPort: 0,
    leaveNetwork: true,
  });
  ends.push(() => ambassador.stop(0));
  // Endpoints of another node: they are reached by host address and host port, which tests can choose.
  const endpoint = (slot: number, hostPort: number, of: Partial<Endpoint> = {}) =>
    sampleEndpoint(slot, {
      nodeId: "n2",
      address: `127.78.0.${slot}`,
      hostAddress: "127.0.0.1",
      hostPorts: [{ protocol: Protocol.TCP, targetPort: port, hostPort }],
      ...of,
    });
  const route = (endpoints: Endpoint[], publishedPort = 0) =>
    sampleRoute({
      vip,
      ports: [{ protocol: Protocol.TCP, targetPort: port, publishedPort, name: "", mode: PublishMode.INGRESS }],
      endpoints,
    });
  const host = sampleHost({
    vipPool: "127.77.0.0/16",
    nodePool: "127.78.0.0/16",
    subnet: "127.78.9.0/24",
    gateway: "127.78.9.1",
    dnsAddress: "127.77.0.53",
  });
  const apply = (endpoints: Endpoint[], publishedPort = 0) =>
    ambassador.apply({ complete: true, host, routes: [route(endpoints, publishedPort)], removedRouteIds: [] });
  const remove = () => ambassador.apply({ complete: true, host, routes: [], removedRouteIds: [] });
  const dial = (address = vip, at = port) => {
    const socket = connect({ host: address, port: at, allowHalfOpen: true });
    ends.push(() => void socket.destroy());
    return socket;
  };
  /** What the service says, or the error's code. */
  const visit = async (address = vip, at = port): Promise<string> => {
    const socket = dial(address, at);
    return await new Promise((resolve) => {
      socket.once("data", (data) => {
        socket.end();
        resolve(String(data));
      });
      socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
      socket.once("end", () => resolve("closed"));
    });
  };
  return { ambassador, port, endpoint, apply, remove, dial, visit };
}

describe("a connection", () => {
  it("reaches all endpoints by the VIP, and each task by its own address", async () => {
    const { endpoint, apply, visit, ambassador } = await setUp();
    const [a, b] = [await backend(greet("a")), await backend(greet("b"))];
    await apply([endpoint(1, a.port), endpoint(2, b.port)]);
    expect(ambassador.problems()).toEqual([]);
    const seen = new Set<string>();
    for (let i = 0; i < 40; i += 1) seen.add(await visit());
    expect(seen).toEqual(new Set(["a", "b"]));
    expect([await visit("127.78.0.1"), await visit("127.78.0.2")]).toEqual(["a", "b"]);
  });

  it("hands on half-close in both directions", async () => {
    const { endpoint, apply, dial } = await setUp();
    // Answers only once the client has closed its half.
    const { port } = await backend((socket) => {
      let got = "";
      socket.on("data", (data) => (got += String(data)));
      socket.on("end", () => socket.end(`got ${got}`));
    });
    await apply([endpoint(1, port)]);
    const client = dial();
    client.end("question");
    let answer = "";
    for await (const data of client) answer += String(data);
    expect(answer).toBe("got question");
  });

  it("carries megabytes unchanged both ways", async () => {
    const { endpoint, apply, dial } = await setUp();
    await apply([endpoint(1, (await backend(echo)).port)]);
    const sent = Buffer.alloc(8 * 1024 * 1024, "0123456789abcdefghijklmnopqrstuvw");
    const client = dial();
    client.end(sent);
    const chunks: Buffer[] = [];
    for await (const chunk of client) chunks.push(chunk as Buffer);
    expect(Buffer.concat(chunks).equals(sent)).toBe(true);
  });

  it("stops its writer when its reader is slow", async () => {
    const { endpoint, apply, dial } = await setUp();
    let written = 0;
    const { port } = await backend((socket) => {
      const chunk = Buffer.alloc(64 * 1024);
      const pump = () => {
        while (written < 1024 * 1024 * 1024 && socket.write(chunk)) written += chunk.length;
      };
      socket.on("drain", pump);
      pump();
    });
    await apply([endpoint(1, port)]);
    const client = dial();
    client.pause();
    await once(client, "connect");
    let before = -1;
    await until("the writer stands still", () => {
      const still = written > 0 && written === before;
      before = written;
      return still;
    });
    await new Promise((resolve) => setTimeout(resolve, 300));
    // Socket buffers of the kernel on three hops, and no more than a few reads of ours.
    expect(written).toBeLessThan(64 * 1024 * 1024);
  });

  it("that its endpoint resets is reset, not ended", async () => {
    const { endpoint, apply, dial } = await setUp();
    const { port } = await backend((socket) => {
      socket.write("part");
      socket.once("data", () => socket.resetAndDestroy());
    });
    await apply([endpoint(1, port)]);
    const client = dial();
    client.once("data", () => client.write("go"));
    const [error] = (await once(client, "error")) as [NodeJS.ErrnoException];
    expect(error.code).toBe("ECONNRESET");
  });

  it("that its client resets is reset at the endpoint, and forgotten", async () => {
    const { endpoint, apply, dial, ambassador } = await setUp();
    const { port, sockets } = await backend(greet("a"));
    await apply([endpoint(1, port)]);
    const client = dial();
    await once(client, "data");
    client.resetAndDestroy();
    await until("both sides closed", () => sockets.size === 0 && ambassador.open === 0);
    expect(ambassador.table.endpoints().map((one) => one.active)).toEqual([0]);
  });
});

describe("endpoints that fail", () => {
  it("cost no connection while another one is there, and are left alone after three", async () => {
    const { endpoint, apply, visit, ambassador } = await setUp();
    const good = await backend(greet("good"));
    await apply([endpoint(1, await closedPort()), endpoint(2, good.port)]);
    const seen = new Set<string>();
    for (let i = 0; i < 60; i += 1) seen.add(await visit());
    expect(seen).toEqual(new Set(["good"]));
    const text = await ambassador.metrics.registry.metrics();
    const failures = Number(/connect_failures_total\{[^}]*\} (\d+)/.exec(text)?.[1]);
    expect(failures).toBeGreaterThanOrEqual(1);
    expect(failures).toBeLessThanOrEqual(3);
  });

  it("that do not answer at all are given up for another", async () => {
    const { endpoint, apply, visit, ambassador } = await setUp();
    const good = await backend(greet("good"));
    await apply([endpoint(1, await silentPort()), endpoint(2, good.port)]);
    const failed = async () =>
      /connect_failures_total\{[^}]*\} [1-9]/.test(await ambassador.metrics.registry.metrics());
    for (let i = 0; i < 50 && !(await failed()); i += 1) expect(await visit()).toBe("good");
    expect(await failed()).toBe(true);
  });

  it("all of them: the client is reset", async () => {
    const { endpoint, apply, visit } = await setUp();
    await apply([endpoint(1, await closedPort()), endpoint(2, await closedPort())]);
    expect(await visit()).toBe("ECONNRESET");
  });
});

describe("a service without endpoints", () => {
  it("that never had one resets at once", async () => {
    const { apply, visit } = await setUp();
    await apply([]);
    expect(await visit()).toBe("ECONNRESET");
  });

  it("that is being restarted lets connections wait for it", async () => {
    const { endpoint, apply, visit, dial, ambassador } = await setUp();
    const { port } = await backend(greet("back"));
    await apply([endpoint(1, port)]);
    expect(await visit()).toBe("back");
    await apply([]);
    const client = dial();
    const answer = once(client, "data");
    await until("the connection waits", () => ambassador.open > 0);
    await apply([endpoint(2, port)]);
    expect(String(await answer)).toBe("back");
  });
});

describe("draining", () => {
  it("takes no new connection, lets the open one go on, and counts it down to zero", async () => {
    const { endpoint, apply, visit, dial, ambassador } = await setUp();
    const [old, next] = [await backend(echo), await backend(greet("next"))];
    await apply([endpoint(1, old.port)]);
    const open = dial();
    open.write("1");
    expect(String(await once(open, "data"))).toBe("1");
    await apply([endpoint(1, old.port, { draining: true }), endpoint(2, next.port)]);
    expect(ambassador.table.drains()).toEqual([{ taskId: "t1", activeConnections: 1 }]);
    for (let i = 0; i < 20; i += 1) expect(await visit()).toBe("next");
    open.write("2");
    expect(String(await once(open, "data"))).toBe("2");
    open.end();
    await until("the connection is counted off", () => ambassador.table.drains()[0]?.activeConnections === 0);
  });
});

describe("listeners", () => {
  it("of a removed service close, its connections go on", async () => {
    const { endpoint, apply, remove, visit, dial, ambassador } = await setUp();
    await apply([endpoint(1, (await backend(echo)).port)]);
    const open = dial();
    open.write("1");
    await once(open, "data");
    await remove();
    expect(ambassador.listening).toEqual([]);
    expect(await visit()).toBe("ECONNREFUSED");
    open.write("2");
    expect(String(await once(open, "data"))).toBe("2");
  });

  it("do not leak over a hundred updates", async () => {
    const { endpoint, apply, remove, ambassador } = await setUp();
    const { port } = await backend(echo);
    for (let i = 0; i < 100; i += 1) await (i % 3 === 0 ? remove() : apply([endpoint(1 + (i % 5), port)]));
    await apply([endpoint(1, port)]);
    expect(ambassador.listening).toHaveLength(2);
  });

  it("on the same port as a published one do not clash", async () => {
    const { endpoint, apply, visit, port, ambassador } = await setUp();
    const { port: to } = await backend(greet("a"));
    await ambassador.start();
    await apply([endpoint(1, to)], port);
    expect(ambassador.problems()).toEqual([]);
    expect([await visit(vip), await visit("127.0.0.1")]).toEqual(["a", "a"]);
  });

  it("that are taken are reported in words, and opened once they are free", async () => {
    const { endpoint, apply, visit, ambassador } = await setUp();
    const { port: to } = await backend(greet("a"));
    await ambassador.start();
    const other = await backend(echo);
    await apply([endpoint(1, to)], other.port);
    const [problem] = ambassador.problems();
    expect(problem).toContain(`published port ${other.port} of service web: is in use by another process`);
    expect(problem).toContain(`127.0.0.1:${other.port}`);
    other.server.close();
    await until("the port is opened", () => ambassador.problems().length === 0);
    expect(await visit("127.0.0.1", other.port)).toBe("a");
  });
});

it("updates under load fail no connection", async () => {
  const { endpoint, apply, visit } = await setUp();
  const backends = await Promise.all([1, 2, 3, 4].map((i) => backend(greet(`b${i}`))));
  const all = backends.map(({ port }, i) => endpoint(i + 1, port));
  await apply(all);
  const answers: string[] = [];
  const load = { running: true };
  const clients = Array.from({ length: 8 }, async () => {
    while (load.running) answers.push(await visit());
  });
  for (let round = 0; round < 40; round += 1) {
    const away = round % 4;
    // As a rolling update does: first draining, then gone, then back.
    await apply(all.map((one, i) => (i === away ? { ...one, draining: true } : one)));
    await apply(all.filter((_, i) => i !== away));
    await apply(all);
  }
  await until("enough connections", () => answers.length > 200);
  load.running = false;
  await Promise.all(clients);
  expect(answers.filter((answer) => !/^b[1-4]$/.test(answer))).toEqual([]);
});

it("beyond its limit connections are reset, the others go on", async () => {
  const { endpoint, apply, dial, visit } = await setUp(1);
  await apply([endpoint(1, (await backend(echo)).port)]);
  const open = dial();
  open.write("1");
  await once(open, "data");
  expect(await visit()).toBe("ECONNRESET");
  open.write("2");
  expect(String(await once(open, "data"))).toBe("2");
});
