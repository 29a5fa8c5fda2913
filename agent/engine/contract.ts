// What every engine must hold: run for the fake beside it, and for a real Docker Engine by
// test/integration/engine.test.ts.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ContainerHealth, MountType, Protocol, PublishMode, PullPolicy } from "../../proto/mod.js";
import type { ContainerRequest, Engine, EngineEvent, EngineLogLine } from "./engine.js";

export interface Bench {
  engine: Engine;
  /** One that the engine has, with sh, echo and sleep. */
  image: string;
  /** Where ports may be published. */
  hostAddress: string;
  /** A container with this name that is not ours; answers its id. */
  foreign(name: string): Promise<string>;
  end(): Promise<void>;
}

const label = { "flotilla.contract": "yes" };

export function engineContract(name: string, open: () => Promise<Bench>): void {
  describe(`engine contract: ${name}`, () => {
    let bench: Bench;
    let networkId: string;
    let count = 0;
    beforeAll(async () => {
      bench = await open();
      networkId = (await bench.engine.ensureNetwork(network)).id;
    });
    afterAll(async () => {
      for (const { id } of await bench.engine.list(label)) await bench.engine.remove(id);
      await bench.end();
    });

    const network = { name: "contract", subnet: "10.128.250.0/24", gateway: "10.128.250.1", labels: label };

    function request(script: string, changes: Partial<ContainerRequest> = {}): ContainerRequest {
      count += 1;
      return {
        name: `contract.${count}`,
        labels: { ...label, "flotilla.try": String(count) },
        spec: {
          image: bench.image,
          command: [],
          args: ["sh", "-c", script],
          env: [],
          user: "",
          workingDir: "",
          hostname: "",
          labels: {},
          stopSignal: "SIGKILL",
          stopGracePeriodMs: 1_000,
          healthcheck: undefined,
          tty: false,
          readOnly: false,
          mounts: [],
          pullPolicy: PullPolicy.MISSING,
        },
        limits: { nanoCpus: 0, memoryBytes: 0, generic: {} },
        reservations: { nanoCpus: 0, memoryBytes: 0, generic: {} },
        networkId,
        dns: { servers: ["10.128.250.1"], search: ["flotilla.internal"] },
        ports: [],
        hostAddress: bench.hostAddress,
        ...changes,
      };
    }

    async function run(script: string, changes: Partial<ContainerRequest> = {}): Promise<string> {
      const { id } = await bench.engine.create(request(script, changes));
      await bench.engine.start(id);
      return id;
    }

    async function ended(id: string) {
      for (;;) {
        const state = await bench.engine.inspect(id);
        if (state.status !== "running") return state;
        await new Promise((resolve) => setImmediate(resolve));
      }
    }

    test("says what it is", async () => {
      const info = await bench.engine.info();
      expect(info.apiVersion).toMatch(/^\d+\.\d+$/);
      expect(info.resources.nanoCpus).toBeGreaterThan(0);
      expect(info.resources.memoryBytes).toBeGreaterThan(0);
      expect(info.volumeDrivers).toContain("local");
      expect(await bench.engine.epoch()).toBe(await bench.engine.epoch());
    });

    test("a network is made once, by parallel calls too; another subnet under its name is refused", async () => {
      const ids = await Promise.all(Array.from({ length: 5 }, () => bench.engine.ensureNetwork(network)));
      expect(new Set(ids.map(({ id }) => id))).toEqual(new Set([networkId]));
      await expect(
        bench.engine.ensureNetwork({ ...network, subnet: "10.128.251.0/24", gateway: "10.128.251.1" }),
      ).rejects.toMatchObject({ code: "failed_precondition" });
    });

    test("a container's life: created, running with address and ports, exited with its code, gone", async () => {
      const { engine } = bench;
      const wanted = request("sleep 1000", {
        ports: [{ protocol: Protocol.TCP, targetPort: 80, publishedPort: 0, name: "", mode: PublishMode.INGRESS }],
      });
      const { id } = await engine.create(wanted);
      expect(await engine.inspect(id)).toMatchObject({
        id,
        name: wanted.name,
        status: "created",
        startedAtMs: 0,
        address: "",
      });
      await engine.start(id);
      const running = await engine.inspect(id);
      expect(running).toMatchObject({ status: "running", health: ContainerHealth.NONE, labels: wanted.labels });
      expect(running.address).toMatch(/^10\.128\./);
      expect(running.hostPorts).toMatchObject([{ targetPort: 80 }]);
      expect(running.hostPorts[0]?.hostPort).toBeGreaterThan(1024);
      expect(running.startedAtMs).toBeGreaterThan(0);
      // Started again while it runs: nothing happens.
      await engine.start(id);
      expect((await engine.inspect(id)).startedAtMs).toBe(running.startedAtMs);
      await engine.stop(id, 1_000);
      const stopped = await engine.inspect(id);
      expect(stopped.status).toBe("exited");
      expect(stopped.exitCode).toBeGreaterThan(128);
      expect(stopped.address).toBe("");
      await engine.stop(id, 1_000);
      await engine.remove(id);
      await expect(engine.inspect(id)).rejects.toMatchObject({ code: "not_found" });
      await engine.remove(id);
      await engine.stop(id, 1_000);
    });

    test("a port of mode host is published as itself, and taken for any other container", async () => {
      const { engine } = bench;
      const ports = [
        { protocol: Protocol.TCP, targetPort: 80, publishedPort: 20_080, name: "", mode: PublishMode.HOST },
        { protocol: Protocol.TCP, targetPort: 81, publishedPort: 20_081, name: "", mode: PublishMode.INGRESS },
      ];
      const id = await run("sleep 1000", { ports });
      const { hostPorts } = await engine.inspect(id);
      expect(hostPorts).toMatchObject([{ targetPort: 80, hostPort: 20_080 }, { targetPort: 81 }]);
      expect(hostPorts[1]?.hostPort).not.toBe(20_081);
      const { id: other } = await engine.create(request("sleep 1000", { ports }));
      await expect(engine.start(other)).rejects.toThrow(/20080.*port is already allocated/);
      await engine.stop(id, 0);
      await engine.start(other);
      await engine.remove(other);
    });

    test("a volume's driver is asked for by name", async () => {
      const volume = (volumeDriver: string) => {
        const { spec } = request("sleep 1000");
        const mount = { type: MountType.VOLUME, source: "contract", target: "/data", readOnly: false, volumeDriver };
        return { spec: { ...spec, mounts: [mount] } };
      };
      await run("sleep 1000", volume("local"));
      await expect(run("sleep 1000", volume("nosuchdriver"))).rejects.toThrow(/nosuchdriver/);
    });

    test("what a container uses is known while it runs", async () => {
      const { engine } = bench;
      const id = await run("sleep 1000");
      for (let i = 0; i < 2; i += 1) {
        const use = await engine.use(id);
        expect(use?.cpuNs).toBeGreaterThan(0);
        expect(use?.memoryBytes).toBeGreaterThan(0);
      }
      await engine.stop(id, 0);
      expect(await engine.use(id)).toBeUndefined();
      await engine.remove(id);
      await expect(engine.use(id)).rejects.toMatchObject({ code: "not_found" });
    });

    test("an exit code is kept, and a new run is told from the old one by its start", async () => {
      const { engine } = bench;
      const id = await run("exit 3");
      const first = await ended(id);
      expect(first).toMatchObject({ status: "exited", exitCode: 3, oomKilled: false });
      await engine.start(id);
      const second = await ended(id);
      expect(second.exitCode).toBe(3);
      expect(second.startedAtMs).toBeGreaterThan(first.startedAtMs);
    });

    test("a running container can be removed", async () => {
      const id = await run("sleep 1000");
      await Promise.all([bench.engine.remove(id), bench.engine.remove(id)]);
      await expect(bench.engine.inspect(id)).rejects.toMatchObject({ code: "not_found" });
    });

    test("a taken name is already_exists and says who holds it", async () => {
      const wanted = request("sleep 1000");
      const { id } = await bench.engine.create(wanted);
      await expect(bench.engine.create(wanted)).rejects.toMatchObject({ code: "already_exists", details: { id } });
      const holder = await bench.foreign("contract.foreign");
      await expect(bench.engine.create({ ...wanted, name: "contract.foreign" })).rejects.toMatchObject({
        code: "already_exists",
        details: { id: holder },
      });
    });

    test("what is not there is not_found", async () => {
      const { engine } = bench;
      await expect(engine.inspect("nosuchcontainer")).rejects.toMatchObject({ code: "not_found" });
      await expect(engine.start("nosuchcontainer")).rejects.toMatchObject({ code: "not_found" });
      const spec = { ...request("sleep 1").spec, image: "nosuch.invalid/image:1" };
      await expect(engine.create(request("sleep 1", { spec }))).rejects.toMatchObject({ code: "not_found" });
    });

    test("an image that is there needs no pull; one that must not be pulled is not_found", async () => {
      const { signal } = new AbortController();
      await bench.engine.ensureImage(bench.image, "missing", signal);
      await bench.engine.ensureImage(bench.image, "never", signal);
      await expect(bench.engine.ensureImage("nosuch.invalid/image:1", "never", signal)).rejects.toMatchObject({
        code: "not_found",
      });
    });

    test("a command that does not exist is refused at the start, in the engine's words", async () => {
      const wanted = request("");
      const { id } = await bench.engine.create({ ...wanted, spec: { ...wanted.spec, args: ["/no/such/program"] } });
      await expect(bench.engine.start(id)).rejects.toMatchObject({
        code: "invalid_argument",
        message: expect.stringContaining("/no/such/program") as string,
      });
      expect((await bench.engine.inspect(id)).startedAtMs).toBe(0);
    });

    test("list finds by all labels", async () => {
      const id = await run("sleep 1000", { labels: { ...label, "flotilla.special": "1" } });
      expect((await bench.engine.list({ ...label, "flotilla.special": "1" })).map((state) => state.id)).toEqual([id]);
      expect(await bench.engine.list({ ...label, "flotilla.special": "2" })).toEqual([]);
    });

    test("events: one without id at the start, then one for each change of a labelled container", async () => {
      const controller = new AbortController();
      const seen: EngineEvent[] = [];
      let wake = () => {};
      const watch = (async () => {
        for await (const event of bench.engine.events({ "flotilla.watched": "1" }, controller.signal)) {
          seen.push(event);
          wake();
        }
      })();
      const until = async (holds: () => boolean) => {
        while (!holds()) await new Promise<void>((resolve) => (wake = resolve));
      };
      await until(() => seen.length > 0);
      expect(seen[0]).toEqual({});
      await run("exit 0");
      const id = await run("sleep 1000", { labels: { ...label, "flotilla.watched": "1" } });
      await until(() => seen.some((event) => event.id === id));
      const before = seen.length;
      await bench.engine.stop(id, 0);
      await until(() => seen.length > before);
      expect(seen.slice(1).every((event) => event.id === id)).toBe(true);
      controller.abort();
      await watch;
    });

    test("logs: both streams, the last lines only, and the end of a followed one with the container's", async () => {
      const { engine } = bench;
      const id = await run("echo one; echo two >&2; echo three; exit 0");
      await ended(id);
      const read = async (options: { follow: boolean; tail?: number; sinceMs?: number }) => {
        const lines: EngineLogLine[] = [];
        for await (const line of engine.logs(id, options, new AbortController().signal)) lines.push(line);
        return lines;
      };
      const all = await read({ follow: false });
      const words = (lines: EngineLogLine[]) =>
        lines.map((line) => `${line.stream} ${Buffer.from(line.text).toString()}`);
      expect(words(all).sort()).toEqual(["stderr two", "stdout one", "stdout three"]);
      expect(all.every((line) => line.atMs > 0)).toBe(true);
      expect(await read({ follow: true })).toHaveLength(3);
      expect(await read({ follow: false, tail: 1 })).toHaveLength(1);
      expect(await read({ follow: false, sinceMs: Math.max(...all.map((line) => line.atMs)) + 60_000 })).toEqual([]);
    });

    test("a followed log of a running container ends when its reader leaves", async () => {
      const id = await run("echo one; sleep 1000");
      const controller = new AbortController();
      const lines: string[] = [];
      for await (const line of bench.engine.logs(id, { follow: true }, controller.signal)) {
        lines.push(Buffer.from(line.text).toString());
        controller.abort();
      }
      expect(lines).toEqual(["one"]);
    });
  });
}
