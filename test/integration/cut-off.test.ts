// Every agent is cut from every manager, for long: nobody tells the hosts anything, and the managers hear nothing. What
// runs goes on running and answering, and when the cut is over nothing is restarted that did not need to be.

import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { BUSYBOX_IMAGE, DEMO_IMAGE } from "../../packaging/lab/mod.js";
import { eventually, labCluster } from "../kit/lab.js";
import { startLoad } from "../kit/load.js";

const cluster = labCluster();
const { lab } = cluster;
/** Three times what makes a node lost; see docs/orchestration.md for the run of ten minutes. */
const cutMs = Number(process.env["FLOTILLA_TEST_CUT_SECONDS"] ?? 45) * 1_000;
const slackMs = 180_000;

/** Of every container of the service: host, name, and how it was started last. */
async function containers(service: string): Promise<string[]> {
  const perHost = await Promise.all(
    lab.hosts.map(async (n) => {
      const filter = ["--filter", `label=flotilla.service=${service}`];
      const ids = (await lab.mustDocker(n, ["ps", "-q", ...filter])).split("\n").filter(Boolean);
      if (ids.length === 0) return "";
      return await lab.mustDocker(n, ["inspect", "--format", `h${n} {{.Name}} {{.State.StartedAt}}`, ...ids]);
    }),
  );
  return perHost.join("").split("\n").filter(Boolean).sort();
}

/** Whether a container of host `n` finds the service by its name and is answered. */
async function answersByName(n: number): Promise<boolean> {
  const command = "timeout 10 wget -q -O - http://web/";
  const { code, stdout } = await lab.docker(n, [
    ..."run --rm --network flotilla".split(" "),
    ...[BUSYBOX_IMAGE, "sh", "-c", command],
  ]);
  return code === 0 && stdout.includes("FLOTILLA_SERVICE");
}

beforeAll(async () => {
  await cluster.clear();
  await cluster.leaderHost(3);
});
afterEach(async () => {
  await lab.heal();
  await cluster.clear();
});
afterAll(async () => {
  await cluster.leaderHost(3);
});

it(
  `${cutMs / 1_000} s without any manager: tasks run on, a crashed one is started in place, names and ports serve`,
  async () => {
    await cluster.must(
      ..."service create --quiet --name web --replicas 6 --publish 8098:80".split(" "),
      `${DEMO_IMAGE}:1`,
    );
    const before = await containers("web");
    const [victim = ""] = await cluster.containers(2, "web");
    const loads = lab.hosts.map((n) => startLoad(lab, n, `http://${lab.address((n % 3) + 1)}:8098/`, 4));
    const cutAt = performance.now();
    await lab.cutAgents();
    await eventually("the managers hear of no agent", async () => {
      const nodes = await cluster.json<{ state: string }[]>("node", "ls");
      return nodes.every(({ state }) => state !== "ready");
    });
    for (const n of lab.hosts) expect(await answersByName(n)).toBe(true);
    const results = await Promise.all(loads.map((load) => load.stop()));
    // Between the two loads: what the crashed one was about to answer is nobody's to save.
    await lab.mustDocker(2, ["kill", victim]);
    await eventually("the crashed one runs again, in place", async () => {
      const now = await containers("web");
      return now.length === 6 && now.filter((line) => !before.includes(line)).length === 1;
    });
    const crashed = await containers("web");
    const names = (lines: readonly string[]) => lines.map((line) => line.split(" ").slice(0, 2).join(" "));
    expect(names(crashed)).toEqual(names(before));
    const later = lab.hosts.map((n) => startLoad(lab, n, `http://${lab.address((n % 3) + 1)}:8098/`, 4));
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, cutAt + cutMs - performance.now())));
    for (const n of lab.hosts) expect(await answersByName(n)).toBe(true);
    expect(await containers("web")).toEqual(crashed);
    await lab.heal();
    await eventually("all nodes are ready", async () => {
      const nodes = await cluster.json<{ state: string }[]>("node", "ls");
      return nodes.every(({ state }) => state === "ready");
    });
    // A change of mind would come with what the agents report at once.
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    results.push(...(await Promise.all(later.map((load) => load.stop()))));
    for (const { ok, failed, errors } of results) {
      expect(errors).toEqual({});
      expect(failed).toBe(0);
      expect(ok).toBeGreaterThan(100);
    }
    expect(await containers("web")).toEqual(crashed);
    const rows = await cluster.json<{ slot: number; state: string }[]>("service", "ps", "web");
    expect(rows.map(({ state }) => state)).toEqual(Array.from({ length: 6 }, () => "running"));
    // And it is steered again.
    await cluster.must("service", "scale", "web=3");
    await eventually("three are left", async () => (await containers("web")).length === 3);
  },
  cutMs + slackMs,
);
