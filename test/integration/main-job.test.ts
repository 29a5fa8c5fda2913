// The main job, end to end, as its user sees it: a replicated service on three real Docker hosts, found by name,
// updated without a failed request, and surviving what dies around it.

import { afterEach, describe, expect, it } from "vitest";
import { BUSYBOX_IMAGE, DEMO_IMAGE } from "../../packaging/lab/mod.js";
import { eventually, labCluster } from "../kit/lab.js";
import { startLoad } from "../kit/load.js";

const cluster = labCluster();
const { lab } = cluster;

/** On a host; busybox's wget has a -T of its own, which crashes in Debian's static build. */
const hostGet = "timeout 10 busybox wget -q -O -".split(" ");

interface PsRow {
  id: string;
  name: string;
  node: string;
  desiredState: string;
  state: string;
  error: string;
}

async function createWeb(...more: string[]): Promise<void> {
  await cluster.must(
    ..."service create --name web --replicas 6 --publish 8080:80 --update-monitor 1s".split(" "),
    ...more,
    `${DEMO_IMAGE}:1`,
  );
}

/** `docker run`s a container by hand on the Flotilla network of host 1 and gives what it prints. */
async function byHand(command: string, host = 1): Promise<string> {
  const { stdout, stderr, code } = await lab.docker(host, [
    ..."run --rm --network flotilla".split(" "),
    BUSYBOX_IMAGE,
    "sh",
    "-c",
    command,
  ]);
  if (code !== 0) throw new Error(`by hand: ${command} exited with ${code}: ${stdout}${stderr}`);
  return stdout;
}

/** Which nodes answer when `web` is asked again and again from a container of host 1. */
async function nodesThatAnswer(): Promise<string[]> {
  const text = await byHand("for i in $(seq 30); do timeout 10 wget -q -O - http://web/ || exit 1; done");
  return [...new Set([...text.matchAll(/FLOTILLA_NODE[=": ]+([\w-]+)/g)].map((match) => match[1] ?? ""))].sort();
}

async function startTimes(): Promise<string[]> {
  const perHost = await Promise.all(
    lab.hosts.map(async (n) => {
      const ids = (await lab.mustDocker(n, ["ps", "-q", "--filter", "label=flotilla.service=web"]))
        .split("\n")
        .filter(Boolean);
      if (ids.length === 0) return "";
      return await lab.mustDocker(n, ["inspect", "--format", "{{.Name}} {{.State.StartedAt}}", ...ids]);
    }),
  );
  return perHost.join("").split("\n").filter(Boolean).sort();
}

afterEach(async () => {
  await cluster.clear();
});

describe("a replicated service on three Docker hosts", () => {
  it("spreads evenly, runs real labelled containers, and is reached by name and on every host's published port", async () => {
    await createWeb();
    for (const n of lab.hosts) expect(await cluster.containers(n, "web")).toHaveLength(2);
    const rows = await cluster.json<PsRow[]>("service", "ps", "web");
    expect(rows.map(({ state }) => state)).toEqual(Array.from({ length: 6 }, () => "running"));
    const labels = await lab.mustDocker(2, ["ps", "--filter", "label=flotilla.service=web", "--format", "{{.Labels}}"]);
    for (const label of ["flotilla.cluster", "flotilla.node", "flotilla.revision=1", "flotilla.task", "flotilla.slot"])
      expect(labels).toContain(label);

    await eventually("tasks of all three hosts answer by name", async () => (await nodesThatAnswer()).length === 3);
    for (const n of lab.hosts)
      for (const from of lab.hosts) {
        const body = await lab.mustExec(from, [...hostGet, `http://${lab.address(n)}:8080/`]);
        expect(body).toContain("FLOTILLA_SERVICE");
      }
    for (const n of lab.hosts) expect(await byHand(`nslookup h${n}.node`)).toContain(lab.address(n));
    // A task of another service finds it as well.
    await cluster.must("service", "create", "--name", "asker", BUSYBOX_IMAGE);
    const [asker] = (
      await Promise.all(lab.hosts.map(async (n) => (await cluster.containers(n, "asker")).map((name) => ({ n, name }))))
    ).flat();
    const answer = await lab.mustDocker(asker?.n ?? 0, [
      "exec",
      asker?.name ?? "",
      ..."timeout 10 wget -q -O -".split(" "),
      "http://web/",
    ]);
    expect(answer).toContain("FLOTILLA_SERVICE");
  });

  it("is updated under continuous load without a failed request", async () => {
    await createWeb("--update-parallelism", "2");
    const outside = startLoad(lab, 2, `http://${lab.address(1)}:8080/`);
    const inside = startLoad(lab, 3, `http://${lab.address(3)}:8080/`);
    const { code, stderr } = await cluster.run(["service", "update", "--image", `${DEMO_IMAGE}:2`, "web"]);
    const results = [await outside.stop(), await inside.stop()];
    expect(code, stderr).toBe(0);
    for (const { ok, failed, errors } of results) {
      expect(errors).toEqual({});
      expect(failed).toBe(0);
      expect(ok).toBeGreaterThan(100);
    }
    const images = await Promise.all(
      lab.hosts.map((n) =>
        lab.mustDocker(n, ["ps", "--filter", "label=flotilla.service=web", "--format", "{{.Image}}"]),
      ),
    );
    expect(images.join("").split("\n").filter(Boolean)).toEqual(Array.from({ length: 6 }, () => `${DEMO_IMAGE}:2`));
  });

  it("pauses a rollout of a broken image, shows its last lines, exits 4, and keeps the rest serving", async () => {
    await createWeb("--restart-max-attempts", "0");
    const { code, stderr, stdout } = await cluster.run(["service", "update", "--image", `${DEMO_IMAGE}:broken`, "web"]);
    expect(code).toBe(4);
    expect(stdout + stderr).toContain("database refused the password");
    const status = await cluster.must("rollout", "status", "web");
    expect(status.toLowerCase()).toContain("paused");
    const rows = await cluster.json<PsRow[]>("service", "ps", "web", "--filter", "desired-state=running");
    expect(rows.filter(({ state }) => state === "running").length).toBeGreaterThanOrEqual(5);
    await cluster.must("rollout", "abort", "web");
    await eventually("six tasks of the old image run", async () => (await startTimes()).length === 6);
  });

  it("rolls a broken image back by itself when asked to, exits 4, and fails no request", async () => {
    await createWeb("--restart-max-attempts", "0", "--update-failure-action", "rollback");
    const load = startLoad(lab, 2, `http://${lab.address(1)}:8080/`);
    const { code, stderr, stdout } = await cluster.run(["service", "update", "--image", `${DEMO_IMAGE}:broken`, "web"]);
    const { failed, errors } = await load.stop();
    expect(code, stdout + stderr).toBe(4);
    expect(errors).toEqual({});
    expect(failed).toBe(0);
    expect(await startTimes()).toHaveLength(6);
    await cluster.must("service", "update", "--image", `${DEMO_IMAGE}:2`, "web");
    await cluster.must("service", "rollback", "web");
    const images = await lab.mustDocker(1, ["ps", "--filter", "label=flotilla.service=web", "--format", "{{.Image}}"]);
    expect(images).toContain(`${DEMO_IMAGE}:1`);
  });

  it("says which node lacks what when nothing fits, and exits 3", async () => {
    const { code, stdout, stderr } = await cluster.run([
      "service",
      "create",
      "--name",
      "big",
      "--reserve-memory",
      "4000g",
      BUSYBOX_IMAGE,
    ]);
    expect(code, stdout + stderr).toBe(3);
    const ps = await cluster.must("service", "ps", "--no-trunc", "big");
    expect(ps).toMatch(/3 (nodes )?short of memory/);
    expect(ps).toMatch(/largest free/);
  });

  it("scales up and down and says what it cannot find", async () => {
    await createWeb();
    await cluster.must("service", "scale", "web=9");
    await eventually("nine run", async () => (await startTimes()).length === 9);
    await cluster.must("service", "scale", "web=3");
    await eventually("three run, one on each host", async () => {
      const counts = await Promise.all(lab.hosts.map(async (n) => (await cluster.containers(n, "web")).length));
      return counts.every((count) => count === 1);
    });
    const { code, stderr } = await cluster.run(["service", "scale", "wed=3"]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/no service "wed".*did you mean web/s);
  });
});

describe("what dies around it", () => {
  it("agent killed and restarted: no container restarted, no request failed", async () => {
    await createWeb();
    const before = await startTimes();
    const load = startLoad(lab, 3, `http://${lab.address(2)}:8080/`);
    await lab.kill("agent", 2);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    await lab.start("agent", 2);
    await eventually("host 2 is ready again", async () => {
      const nodes = await cluster.json<{ state: string }[]>("node", "ls");
      return nodes.every(({ state }) => state === "ready");
    });
    const { failed, errors, ok } = await load.stop();
    expect(errors).toEqual({});
    expect(failed).toBe(0);
    expect(ok).toBeGreaterThan(50);
    expect(await startTimes()).toEqual(before);
  });

  it("a published port that something else on a host has is named there, and opened once it is free", async () => {
    const other = lab.exec(2, "timeout 10 busybox nc -ll -p 8095 -e true".split(" "));
    await cluster.must("service", "create", "--name", "taken", "--publish", "8095:80", `${DEMO_IMAGE}:1`);
    const problems = async () => (await cluster.json<{ problems: string[] }[]>("node", "inspect", "h2"))[0]?.problems;
    await eventually("host 2 names the port and the service", async () =>
      ((await problems()) ?? []).some((text) => text.includes("8095") && text.includes("taken")),
    );
    expect(await cluster.must("node", "ls")).toContain("Ready (1 problem)");
    await other;
    await eventually("the problem is gone", async () => (await problems())?.length === 0);
    const body = await lab.mustExec(1, [...hostGet, `http://${lab.address(2)}:8095/`]);
    expect(body).toContain("FLOTILLA_SERVICE");
  });

  it("ambassador killed: back by itself, routes and names served again", async () => {
    await createWeb();
    await lab.kill("ambassador", 1);
    await eventually("names are answered on host 1 again", async () => (await nodesThatAnswer()).length === 3, 20_000);
  });

  it("the leader's whole host killed: its tasks run elsewhere within 30 s; when it returns, nothing runs twice", async () => {
    await createWeb();
    const dead = await cluster.leaderHost(3);
    await lab.kill("host", dead);
    try {
      const running = async () => {
        const alive = lab.hosts.filter((n) => n !== dead);
        return (await Promise.all(alive.map((n) => cluster.containers(n, "web")))).flat().length;
      };
      await eventually("six run on the two hosts that are left", async () => (await running()) === 6, 30_000);
      await lab.start("host", dead);
      await eventually("the host is ready", async () => {
        const nodes = await cluster.json<{ state: string }[]>("node", "ls");
        return nodes.filter(({ state }) => state === "ready").length === 3;
      });
      await eventually(
        "the host runs nothing of the service",
        async () => (await cluster.containers(dead, "web")).length === 0,
      );
      const rows = await cluster.json<PsRow[]>("service", "ps", "web", "--filter", "desired-state=running");
      expect(rows).toHaveLength(6);
      expect(await running()).toBe(6);
    } finally {
      // What follows needs all hosts, whatever was seen here.
      await lab.start("host", dead);
    }
  });

  it("every manager killed and restarted: all goes on; a create sent meanwhile is done exactly once or refused clearly", async () => {
    await createWeb();
    const before = await startTimes();
    const load = startLoad(lab, 3, `http://${lab.address(2)}:8080/`);
    for (const n of lab.hosts) await lab.kill("manager", n);
    const create = cluster.run(["service", "create", "-d", "--name", "late", BUSYBOX_IMAGE]);
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    // Together: one alone is never ready.
    await Promise.all(lab.hosts.map((n) => lab.start("manager", n)));
    const { code, stderr } = await create;
    const names = (await cluster.must("service", "ls", "--format", "{{.Name}}")).split("\n").filter(Boolean);
    if (code === 0) expect(names.sort()).toEqual(["late", "web"]);
    else {
      expect(stderr).toMatch(/cannot reach a manager/);
      expect(names).toEqual(["web"]);
    }
    const { failed, errors } = await load.stop();
    expect(errors).toEqual({});
    expect(failed).toBe(0);
    expect(await startTimes()).toEqual(before);
  });
});
