// Names and connections as containers have them: real engines, Docker's own resolver, and two ambassadors steered by
// this test in place of an agent. Its lab is its own, without manager and agents.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type ClientDuplexStream, credentials } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BUSYBOX_IMAGE, Lab } from "../../packaging/lab/mod.js";
import {
  AmbassadorClient,
  type SteerRequest,
  type SteerResponse,
} from "../../proto/gen/flotilla/ambassador/v1/ambassador.js";
import { type Endpoint, Protocol, PublishMode, type Route } from "../../proto/mod.js";
import { eventually } from "../kit/lab.js";

const cliPath = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const vip = "10.127.0.7";
const hosts = [1, 2] as const;
let lab: Lab;
let folder: string;
const running = new Map<number, ChildProcess>();
const streams: { client: AmbassadorClient }[] = [];
let endpoints: Endpoint[] = [];

const dataDir = (n: number) => join(folder, `h${n}`);

async function startAmbassador(n: number): Promise<void> {
  const [program, args] = lab.command(n, [process.execPath, cliPath, "ambassador", "--data-dir", dataDir(n)]);
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
  running.set(n, child);
  let log = "";
  child.stderr.on("data", (data: Buffer) => (log += data.toString()));
  await eventually(`ambassador of host ${n} serves`, () => {
    if (child.exitCode !== null) throw new Error(log);
    return log.includes('"ambassador serves"');
  });
}

async function stopAmbassador(n: number, signal: NodeJS.Signals): Promise<void> {
  const pid = (await lab.mustExec(n, ["cat", join(dataDir(n), "ambassador.pid")])).trim();
  const child = running.get(n);
  await lab.mustExec(n, ["kill", `-${signal.slice(3)}`, pid]);
  if (child !== undefined && child.exitCode === null && child.signalCode === null) await once(child, "exit");
}

function steer(n: number) {
  const client = new AmbassadorClient(`unix:${join(dataDir(n), "ambassador.sock")}`, credentials.createInsecure());
  const call: ClientDuplexStream<SteerRequest, SteerResponse> = client.steer();
  let last: SteerResponse | undefined;
  let sequence = 0;
  call.on("data", (response: SteerResponse) => (last = response));
  // Ends with an error when a test kills the ambassador, or a newer stream takes over.
  call.on("error", () => undefined);
  streams.push({ client });
  const apply = async (routes: Route[]): Promise<SteerResponse> => {
    sequence += 1;
    call.write({
      complete: true,
      host: {
        nodeId: `n${n}`,
        gateway: `10.128.${n}.1`,
        subnet: `10.128.${n}.0/24`,
        vipPool: "10.127.0.0/16",
        nodePool: "10.128.0.0/10",
        domain: "flotilla.internal",
        dnsAddress: "10.127.0.53",
        nodeAddresses: { h1: lab.address(1), h2: lab.address(2) },
      },
      routes,
      removedRouteIds: [],
      sequence,
    });
    await eventually(`host ${n} applied ${sequence}`, () => last?.appliedSequence === sequence);
    return last ?? expect.fail("no answer");
  };
  return { apply, last: () => last };
}

const web = (of: Partial<Route> = {}): Route => ({
  id: "s1",
  serviceName: "web",
  vip,
  ports: [{ protocol: Protocol.TCP, targetPort: 80, publishedPort: 8080, name: "http", mode: PublishMode.INGRESS }],
  endpoints,
  ...of,
});

/** What a throw-away container on host `n` prints. */
async function inContainer(n: number, network: readonly string[], script: string): Promise<string> {
  const { stdout, stderr } = await lab.docker(n, ["run", "--rm", ...network, BUSYBOX_IMAGE, "sh", "-c", script], {
    timeoutMs: 60_000,
  });
  return stdout + stderr;
}
const onFlotilla = (n: number) => [
  "--network",
  "flotilla",
  "--dns",
  `10.128.${n}.1`,
  "--dns-search",
  "flotilla.internal",
];
const fetchMany = (url: string) => `for i in $(seq 1 24); do wget -qO- ${url} || echo failed; done`;
const distinct = (text: string) => [...new Set(text.trim().split("\n"))].sort();

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "discovery-"));
  lab = await Lab.up({ name: "discovery", hosts: 2, processes: false, store: "memory", images: ["busybox"] });
  for (const n of hosts) {
    await lab.mustDocker(n, [
      "network",
      "create",
      "--subnet",
      `10.128.${n}.0/24`,
      "--gateway",
      `10.128.${n}.1`,
      "flotilla",
    ]);
    for (const k of [1, 2]) {
      const serve = `mkdir /www; echo h${n}.${k} > /www/index.html; exec httpd -f -p 80 -h /www`;
      const id = (
        await lab.mustDocker(n, [
          "run",
          "-d",
          "--network",
          "flotilla",
          "-p",
          `${lab.address(n)}::80`,
          BUSYBOX_IMAGE,
          "sh",
          "-c",
          serve,
        ])
      ).trim();
      const format =
        '{{(index .NetworkSettings.Networks "flotilla").IPAddress}} {{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}';
      const [address = "", hostPort = ""] = (await lab.mustDocker(n, ["inspect", "--format", format, id]))
        .trim()
        .split(" ");
      endpoints.push({
        taskId: `t${n}${k}`,
        slot: (n - 1) * 2 + k,
        revision: 1,
        nodeId: `n${n}`,
        address,
        hostAddress: lab.address(n),
        hostPorts: [{ protocol: Protocol.TCP, targetPort: 80, hostPort: Number(hostPort) }],
        draining: false,
      });
    }
    await startAmbassador(n);
  }
  for (const n of hosts) expect((await steer(n).apply([web()])).problems).toEqual([]);
});

afterAll(async () => {
  for (const { client } of streams) client.close();
  await Lab.down("discovery");
  await rm(folder, { recursive: true, force: true });
});

const everywhere = ["h1.1", "h1.2", "h2.1", "h2.2"];

describe("a container", () => {
  it.each([
    ["on the Flotilla network with our resolver", (n: number) => onFlotilla(n)],
    ["on the Flotilla network with the host's resolver", () => ["--network", "flotilla"]],
    ["on Docker's default network", () => []],
  ])("%s reaches all tasks by the service's name", async (_, network) => {
    for (const n of hosts)
      expect(distinct(await inContainer(n, network(n), fetchMany("http://web/")))).toEqual(everywhere);
  });

  it("reaches every task by slot, its own address included, wherever it runs", async () => {
    const script =
      "for i in 1 2 3 4; do wget -qO- http://$i.web/; done; for i in 1 2 3 4; do wget -qO- http://$i.web.flotilla.internal/; done";
    for (const n of hosts)
      expect((await inContainer(n, onFlotilla(n), script)).trim().split("\n")).toEqual([...everywhere, ...everywhere]);
  });

  it("gets names, reverse names and denials through Docker's resolver", async () => {
    const text = await inContainer(
      1,
      onFlotilla(1),
      `nslookup tasks.web; nslookup ${vip}; nslookup h2.node; nslookup nope`,
    );
    for (const { address } of endpoints) expect(text).toContain(address);
    expect(text).toContain("name = web.flotilla.internal");
    expect(text).toContain(lab.address(2));
    expect(text).toContain("NXDOMAIN");
  });

  it("is refused at once on a port that no service has", async () => {
    expect(await inContainer(1, onFlotilla(1), "wget -qO- http://web:81/")).toContain("Connection refused");
  });
});

describe("a host", () => {
  it("answers on the published port, and resolves over UDP and TCP", async () => {
    for (const n of hosts) {
      expect(distinct(await lab.mustExec(n, ["sh", "-c", fetchMany(`http://${lab.address(n)}:8080/`)]))).toEqual(
        everywhere,
      );
      expect(distinct(await lab.mustExec(n, ["dig", "+tcp", "+short", "@10.127.0.53", "tasks.web"]))).toEqual(
        endpoints.map((e) => e.address).sort(),
      );
      const aaaa = await lab.mustExec(n, ["dig", `@10.128.${n}.1`, "web", "AAAA"]);
      expect(aaaa).toMatch(/status: NOERROR[\s\S]*ANSWER: 0[\s\S]*SOA/);
    }
  });

  it("keeps VIPs from rules that Docker makes for published ports where its userland proxy is off", async () => {
    const serve = "mkdir /www; echo thief > /www/index.html; exec httpd -f -p 80 -h /www";
    await lab.mustDocker(1, ["run", "-d", "--name", "thief", BUSYBOX_IMAGE, "sh", "-c", serve]);
    const format = "{{.NetworkSettings.IPAddress}}";
    const address = (await lab.mustDocker(1, ["inspect", "--format", format, "thief"])).trim();
    const rule = ["DOCKER", "-p", "tcp", "--dport", "80", "-j", "DNAT", "--to-destination", `${address}:80`];
    await lab.mustExec(1, ["iptables", "-w", "-t", "nat", "-A", ...rule]);
    // The rule is there and works: the host's own address leads to the thief.
    expect(distinct(await lab.mustExec(1, ["wget", "-qO-", `http://${lab.address(1)}/`]))).toEqual(["thief"]);
    expect(distinct(await lab.mustExec(1, ["sh", "-c", fetchMany(`http://${vip}/`)]))).toEqual(everywhere);
    expect(distinct(await inContainer(1, [], fetchMany("http://web/")))).toEqual(everywhere);
    await lab.mustExec(1, ["iptables", "-w", "-t", "nat", "-D", ...rule]);
    await lab.mustDocker(1, ["rm", "-f", "thief"]);
  });
});

describe("steering", () => {
  it("reports a published port that is taken, in words, and opens it when it is free", async () => {
    const { apply, last } = steer(1);
    await lab.mustDocker(1, [
      "run",
      "-d",
      "--name",
      "holder",
      "-p",
      "8099:80",
      BUSYBOX_IMAGE,
      "httpd",
      "-f",
      "-p",
      "80",
    ]);
    const { problems } = await apply([
      web({
        ports: [{ protocol: Protocol.TCP, targetPort: 80, publishedPort: 8099, name: "", mode: PublishMode.INGRESS }],
      }),
    ]);
    expect(problems.join("\n")).toContain(
      "published port 8099 of service web: is in use by another process on this host",
    );
    await lab.mustDocker(1, ["rm", "-f", "holder"]);
    await eventually("the port is open", () => last()?.problems.length === 0);
    expect(distinct(await lab.mustExec(1, ["sh", "-c", fetchMany(`http://${lab.address(1)}:8099/`)]))).toEqual(
      everywhere,
    );
    await apply([web()]);
  });

  it("reports a VIP's port that a wildcard listener of the host takes, and opens it when it is free", async () => {
    const { apply, last } = steer(1);
    await lab.mustDocker(1, [
      "run",
      "-d",
      "--name",
      "holder",
      "-p",
      "8181:80",
      BUSYBOX_IMAGE,
      "httpd",
      "-f",
      "-p",
      "80",
    ]);
    const ports = [{ protocol: Protocol.TCP, targetPort: 8181, publishedPort: 0, name: "", mode: PublishMode.INGRESS }];
    const { problems } = await apply([
      web(),
      web({ id: "s2", serviceName: "other", vip: "10.127.0.9", ports, endpoints: [] }),
    ]);
    expect(problems).toEqual([
      "port 8181 of service other: 10.127.0.9:8181 is in use by another process on this host; stop that one, or choose another port",
    ]);
    await lab.mustDocker(1, ["rm", "-f", "holder"]);
    await eventually("the port is open", () => last()?.problems.length === 0);
    await apply([web()]);
  });

  it("counts the connections of a draining task, and takes it out of the choice", async () => {
    const { apply, last } = steer(1);
    await apply([web()]);
    const socket = connect(8080, lab.address(1));
    await once(socket, "connect");
    // Which endpoint it went to is the ambassador's choice: drain them all.
    const drained = endpoints.map((endpoint) => ({ ...endpoint, draining: true }));
    const { drains } = await apply([web({ endpoints: drained })]);
    expect(drains.map((drain) => drain.activeConnections).sort((a, b) => a - b)).toEqual([0, 0, 0, 1]);
    socket.destroy();
    await eventually("none is left", () => last()?.drains.every((drain) => drain.activeConnections === 0) === true);
    await apply([web({ endpoints: drained.map((endpoint) => ({ ...endpoint, draining: endpoint.nodeId === "n1" })) })]);
    expect(distinct(await lab.mustExec(1, ["sh", "-c", fetchMany(`http://${vip}/`)]))).toEqual(["h2.1", "h2.2"]);
    await apply([web()]);
  });
});

describe("the process", () => {
  it("refuses to run twice", async () => {
    const { code, stderr } = await lab.exec(1, [process.execPath, cliPath, "ambassador", "--data-dir", dataDir(1)]);
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/another ambassador \(pid \d+\) serves/);
  });

  it.each(["SIGKILL", "SIGTERM"] as const)(
    "serves the last routes again after %s, without an agent",
    async (signal) => {
      await steer(1).apply([web()]);
      // Routes are saved soon after they changed; a kill at this very moment may miss the last change.
      await eventually(
        "routes are saved",
        async () => (await lab.exec(1, ["test", "-s", join(dataDir(1), "ambassador-routes.bin")])).code === 0,
      );
      await stopAmbassador(1, signal);
      expect(await inContainer(1, onFlotilla(1), `wget -qO- http://${vip}/`)).toContain("refused");
      await startAmbassador(1);
      expect(distinct(await inContainer(1, onFlotilla(1), fetchMany("http://web/")))).toEqual(everywhere);
    },
  );

  it("answers on the gateway again after Docker's network was made anew", async () => {
    const ids = (await lab.mustDocker(2, ["ps", "-q", "--filter", "network=flotilla"])).split("\n").filter(Boolean);
    await lab.mustDocker(2, ["rm", "-f", ...ids]);
    await lab.mustDocker(2, ["network", "rm", "flotilla"]);
    await lab.mustDocker(2, ["network", "create", "--subnet", "10.128.2.0/24", "--gateway", "10.128.2.1", "flotilla"]);
    endpoints = endpoints.filter((endpoint) => endpoint.nodeId === "n1");
    await steer(2).apply([web()]);
    expect(distinct(await inContainer(2, onFlotilla(2), fetchMany("http://web/")))).toEqual(["h1.1", "h1.2"]);
  });
});
