// The engine's contract on a real Docker Engine, and what only a real one can show.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { engineContract } from "../../agent/engine/contract.js";
import { DockerEngine, type EngineEvent, type EngineLogLine } from "../../agent/engine/mod.js";
import { createLogger, systemClock, systemRng } from "../../lib/mod.js";
import { Lab } from "../../packaging/lab/mod.js";
import { PullPolicy } from "../../proto/mod.js";
import { eventually } from "../kit/lab.js";

const image = "flotilla/busybox:latest";
let lab: Lab;

function openEngine(): DockerEngine {
  return new DockerEngine({
    host: `unix://${lab.dockerSocket(1)}`,
    clock: systemClock,
    rng: systemRng,
    log: createLogger("engine-test", "silent"),
  });
}

beforeAll(async () => {
  await Lab.down("engine");
  lab = await Lab.up({ name: "engine", hosts: 1, store: "memory", processes: false, images: ["busybox"] });
});
afterAll(async () => {
  await lab.down();
});

engineContract("docker", async () => {
  const engine = openEngine();
  return await Promise.resolve({
    engine,
    image,
    hostAddress: lab.address(1),
    foreign: async (name: string) => (await lab.mustDocker(1, ["create", "--name", name, image, "sleep", "1"])).trim(),
    end: async () => {
      await lab.mustDocker(1, ["rm", "--force", "contract.foreign"]);
      await engine[Symbol.asyncDispose]();
    },
  });
});

describe("docker engine", () => {
  async function request(name: string, args: string[]) {
    return await Promise.resolve({
      name,
      labels: { "flotilla.real": "yes" },
      spec: {
        image,
        command: [],
        args,
        env: [],
        user: "",
        workingDir: "",
        hostname: "",
        labels: {},
        stopSignal: "",
        stopGracePeriodMs: 1_000,
        healthcheck: undefined,
        tty: false,
        readOnly: false,
        mounts: [],
        pullPolicy: PullPolicy.MISSING,
      },
      limits: { nanoCpus: 0, memoryBytes: 0, generic: {} },
      reservations: { nanoCpus: 0, memoryBytes: 0, generic: {} },
      networkId: "bridge",
      dns: { servers: [], search: [] },
      ports: [],
      hostAddress: lab.address(1),
    });
  }

  test("a registry that cannot be reached is unavailable, in the engine's words", async () => {
    await using engine = openEngine();
    const pull = engine.ensureImage("nosuch.invalid/image:1", "missing", new AbortController().signal);
    await expect(pull).rejects.toMatchObject({ code: "unavailable", details: { source: "registry" } });
    await expect(pull).rejects.toThrow(/nosuch\.invalid/);
  });

  test("an image name that is none is invalid_argument", async () => {
    await using engine = openEngine();
    const pull = engine.ensureImage("Not An Image", "missing", new AbortController().signal);
    await expect(pull).rejects.toMatchObject({ code: "invalid_argument" });
  });

  test("no engine on the socket: unavailable, at once", async () => {
    await using engine = new DockerEngine({
      host: "unix:///nonexistent/docker.sock",
      clock: systemClock,
      rng: systemRng,
      log: createLogger("engine-test", "silent"),
    });
    await expect(engine.ping()).rejects.toMatchObject({ code: "unavailable" });
    await expect(engine.list({})).rejects.toMatchObject({ code: "unavailable" });
  });

  test("100,000 log lines are read whole, slowly or fast, and a line of 40 KiB is cut at 16 KiB", async () => {
    await using engine = openEngine();
    const script =
      "i=0; while [ $i -lt 100000 ]; do echo $i; i=$((i+1)); done; head -c 40960 /dev/zero | tr '\\0' x; echo; echo end";
    const { id } = await engine.create(await request("chatty", ["sh", "-c", script]));
    await engine.start(id);
    const lines: EngineLogLine[] = [];
    for await (const line of engine.logs(id, { follow: true }, new AbortController().signal)) lines.push(line);
    expect(lines).toHaveLength(100_002);
    expect(Buffer.from(lines[99_999]?.text ?? []).toString()).toBe("99999");
    expect(lines[100_000]?.text.length).toBe(16 * 1024);
    expect(Buffer.from(lines[100_001]?.text ?? []).toString()).toBe("end");
    await engine.remove(id);
  });

  test("lines of a terminal are not framed, and are read all the same", async () => {
    await using engine = openEngine();
    const wanted = await request("tty", ["sh", "-c", "echo one; echo two"]);
    const { id } = await engine.create({ ...wanted, spec: { ...wanted.spec, tty: true } });
    await engine.start(id);
    const lines: string[] = [];
    for await (const line of engine.logs(id, { follow: true }, new AbortController().signal))
      lines.push(Buffer.from(line.text).toString());
    expect(lines).toEqual(["one", "two"]);
    await engine.remove(id);
  });

  test("the engine killed and started anew: calls fail as unavailable, events come back, and its life has another name", async () => {
    await using engine = openEngine();
    const before = await engine.epoch();
    const { id } = await engine.create(await request("survivor", ["sleep", "1000"]));
    await engine.start(id);
    const controller = new AbortController();
    const seen: EngineEvent[] = [];
    const watch = (async () => {
      for await (const event of engine.events({ "flotilla.real": "yes" }, controller.signal)) seen.push(event);
    })();
    await eventually("the event stream is open", () => seen.length > 0);
    await lab.kill("dockerd", 1);
    await eventually("calls are refused", async () => {
      const failure = await engine.ping().catch((thrown: unknown) => thrown);
      expect(failure).toMatchObject({ code: "unavailable" });
      return true;
    });
    const looksBefore = seen.filter((event) => event.id === undefined).length;
    await lab.start("dockerd", 1);
    await eventually("told to look again", () => seen.filter((event) => event.id === undefined).length > looksBefore);
    expect(await engine.epoch()).not.toBe(before);
    expect((await engine.inspect(id)).status).toBe("exited");
    controller.abort();
    await watch;
    await engine.remove(id);
  });
});
