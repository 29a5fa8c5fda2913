// What quickstart does, and what has to be seen for it to count. Each step prints what it saw and throws NotSeen for the rest.
import { systemClock } from "../../lib/mod.js";
import { BUSYBOX_IMAGE, DEMO_IMAGE } from "../lab/mod.js";
import { type Load, type LoadResult, startLoad } from "../lab/load/mod.js";
import { type Cluster, NotSeen, get } from "./cluster.js";
import { list, seconds } from "./report.js";

export interface Step {
  readonly name: string;
  /** What the user would type for it. */
  readonly command?: readonly string[];
  /** Without it, the steps after it make no sense. */
  readonly vital?: true;
  run(cluster: Cluster, saw: (text: string) => void, signal: AbortSignal): Promise<void>;
}

const REPLICAS = 6;
const PORT = 8080;
const [OLD, NEW] = [`${DEMO_IMAGE}:1`, `${DEMO_IMAGE}:2`];
/** Requests until tasks of every host must have answered: that one of three hosts is left out by chance is one in 10^5. */
const ASKED = 30;
const CLIENTS = 8;

const CREATE = [
  ..."service create --name web --publish".split(" "),
  `${PORT}:80`,
  "--replicas",
  String(REPLICAS),
  ..."--update-order start-first --update-parallelism 2 --update-monitor 2s".split(" "),
  OLD,
];
const UPDATE = ["service", "update", "--image", NEW, "web"];
const SCALE = ["service", "scale", "--detach", `web=${REPLICAS + 1}`];

interface NodeRow {
  readonly hostname: string;
  readonly state: string;
  readonly address: string;
  readonly engineVersion: string;
}
interface TaskRow {
  readonly node: string;
  readonly image: string;
  readonly state: string;
  readonly ready: boolean;
}

interface Managers {
  readonly leader: { readonly name: string } | null;
  readonly writable: boolean;
  readonly message: string;
  readonly managers: readonly { readonly name: string; readonly role: string; readonly state: string }[];
}

export const steps: readonly Step[] = [
  {
    name: "deploy a service",
    command: ["flotilla", ...CREATE],
    vital: true,
    async run(cluster, saw) {
      const beganMs = systemClock.monotonic();
      await cluster.flotilla(CREATE, 120_000);
      saw(`exit code 0 in ${seconds(systemClock.monotonic() - beganMs)}: all ${REPLICAS} tasks are running and ready`);
    },
  },
  {
    name: "look at its tasks",
    command: ["flotilla", "service", "ps", "web"],
    async run(cluster, saw) {
      const format = "table {{.Name}}\t{{.Image}}\t{{.Node}}\t{{.CurrentState}}\t{{.Ports}}";
      saw(await cluster.flotilla(["service", "ps", "--format", format, "web"]));
      const tasks = await running(cluster);
      for (const n of cluster.lab.hosts) {
        const here = tasks.filter(({ node }) => node === `h${n}`).length;
        if (here !== REPLICAS / cluster.lab.hosts.length)
          throw new NotSeen(`h${n} runs ${here} of the ${tasks.length} tasks`);
      }
      await expectContainers(cluster, OLD);
    },
  },
  {
    name: "reach it by name, from a container on h3",
    command: [
      ..."docker run --rm --network flotilla".split(" "),
      BUSYBOX_IMAGE,
      ..."wget -q -O - http://web/".split(" "),
    ],
    async run(cluster, saw) {
      const ask = `for i in $(seq ${ASKED}); do timeout 5 wget -q -O - http://web/ || exit 1; done`;
      const command = ["run", "--rm", "--network", "flotilla", BUSYBOX_IMAGE, "sh", "-c", ask];
      const nodes = await cluster.eventually(20_000, async () => {
        const nodes = nodesIn(await cluster.docker(3, command));
        if (nodes.length !== cluster.lab.hosts.length) throw new NotSeen(`only tasks on ${list(nodes)} answered`);
        return nodes;
      });
      saw(`${ASKED} requests, ${ASKED} answers, from tasks on ${list(nodes)}`);
    },
  },
  {
    name: `reach it from outside, on port ${PORT} of every host`,
    async run(cluster, saw, signal) {
      const urls = cluster.lab.hosts.map((n) => `http://${cluster.lab.address(n)}:${PORT}/`);
      for (const url of urls) {
        const answer = await cluster.eventually(10_000, () => get(url, signal));
        if (!answer.includes("FLOTILLA_SERVICE=web")) throw new NotSeen(`${url} answered ${JSON.stringify(answer)}`);
      }
      saw(`${list(urls)} answer`);
    },
  },
  {
    name: "update it under load",
    command: ["flotilla", ...UPDATE],
    async run(cluster, saw) {
      const tookMs = await underLoad(cluster, saw, ["1", "2"], async () => {
        const beganMs = systemClock.monotonic();
        await cluster.flotilla(UPDATE, 180_000);
        return systemClock.monotonic() - beganMs;
      });
      const tasks = await running(cluster);
      const old = tasks.filter(({ image }) => image !== NEW).length;
      if (old > 0) throw new NotSeen(`${old} tasks do not run ${NEW}`);
      await expectContainers(cluster, NEW);
      saw(`exit code 0 in ${seconds(tookMs)}: all ${tasks.length} tasks run ${NEW}, in ${tasks.length} containers`);
    },
  },
  {
    name: "see which manager leads",
    command: ["flotilla", "cluster", "status"],
    vital: true,
    async run(cluster, saw) {
      await leaderHost(cluster);
      const format = "table {{.Name}}\t{{.Address}}\t{{.Role}}\t{{.State}}\t{{.Lag}}";
      saw(await cluster.flotilla(["cluster", "status", "--format", format]));
    },
  },
  {
    name: "kill the manager that leads, under load",
    async run(cluster, saw) {
      const n = await leaderHost(cluster);
      const manager = ["--name", cluster.lab.name, "manager", String(n)];
      const before = await startedContainers(cluster);
      await underLoad(cluster, saw, ["2"], async () => {
        saw(`$ flotilla lab kill ${manager.join(" ")}\n$ flotilla ${SCALE.join(" ")}`);
        const killedMs = systemClock.monotonic();
        const since = (): string => seconds(systemClock.monotonic() - killedMs);
        if (!(await cluster.lab.kill("manager", n))) throw new NotSeen(`the manager of h${n} did not run`);
        await cluster.flotilla(SCALE);
        const written = since();
        const tasks = await cluster.eventually(30_000, () => running(cluster, REPLICAS + 1));
        const ready = since();
        const leader = await cluster.eventually(30_000, async () => {
          const { leader } = await cluster.json<Managers>(["cluster", "status"]);
          if (leader === null || leader.name === `h${n}`) throw new NotSeen(`no other manager than h${n} leads`);
          return leader;
        });
        saw(
          `${leader.name} leads; the write was taken ${written} after the kill, task ${tasks.length} ready after ${ready}`,
        );
      });
      const now = new Set(await startedContainers(cluster));
      const lost = before.filter((container) => !now.has(container));
      if (lost.length > 0) throw new NotSeen(`${lost.length} containers were restarted or are gone`);
      await cluster.lab.start("manager", n);
      await leaderHost(cluster);
      saw(`the ${before.length} containers run on, none restarted; h${n}'s manager is back, all three reachable`);
    },
  },
];

/** The host whose manager leads, once all managers have a vote and are in touch with it. */
async function leaderHost(cluster: Cluster): Promise<number> {
  return await cluster.eventually(30_000, async () => {
    const { leader, writable, message, managers } = await cluster.json<Managers>(["cluster", "status"]);
    const well = managers.filter(({ role, state }) => role === "voter" && ["leader", "reachable"].includes(state));
    if (well.length !== cluster.lab.managers.length)
      throw new NotSeen(
        `${well.length} of ${cluster.lab.managers.length} managers vote and are reachable: ${list(managers.map(({ name, role, state }) => `${name} ${role} ${state}`))}`,
      );
    const n = cluster.lab.hosts.find((n) => leader?.name === `h${n}`);
    if (n === undefined || !writable) throw new NotSeen(`no manager leads: ${message}`);
    return n;
  });
}

/** Does `work` while requests come from two hosts, and expects each of them to be answered, by these versions and no other. */
async function underLoad<T>(
  cluster: Cluster,
  saw: (text: string) => void,
  versions: readonly string[],
  work: () => Promise<T>,
): Promise<T> {
  const loads: readonly { readonly from: string; readonly load: Load }[] = [
    {
      from: `h2 to h1's port ${PORT}`,
      load: startLoad(cluster.lab, 2, `http://${cluster.lab.address(1)}:${PORT}/`, CLIENTS),
    },
    { from: "h3 to the name web", load: startLoad(cluster.lab, 3, "http://web.flotilla.internal/", CLIENTS) },
  ];
  try {
    // Some of the load before and after the work, so that both versions are seen.
    await cluster.pause(1_000);
    const done = await work();
    await cluster.pause(1_000);
    const results: LoadResult[] = [];
    for (const { load } of loads) results.push(await load.stop());
    for (const [i, { from }] of loads.entries()) saw(describeLoad(from, results[i]));
    for (const result of results) expectNothingFailed(result, versions);
    return done;
  } finally {
    for (const { load } of loads) load.kill();
  }
}

/** Each container of the service, with the start of its process: another after any restart. */
async function startedContainers(cluster: Cluster): Promise<readonly string[]> {
  const perHost = await Promise.all(
    cluster.lab.hosts.map(async (n) => {
      const ids = (await cluster.docker(n, ["ps", "-q", "--filter", "label=flotilla.service=web"])).split("\n");
      const found = ids.filter(Boolean);
      if (found.length === 0) return "";
      return await cluster.docker(n, ["inspect", "--format", "{{.Id}} {{.State.StartedAt}}", ...found]);
    }),
  );
  return perHost.flatMap((text) => text.split("\n").filter(Boolean));
}

/** Waits until every host's agent has its node ready, and answers what there is. */
export async function readyNodes(cluster: Cluster): Promise<string> {
  return await cluster.eventually(20_000, async () => {
    const nodes = (await cluster.json<readonly NodeRow[]>(["node", "ls"])).filter(({ state }) => state === "ready");
    if (nodes.length !== cluster.lab.hosts.length)
      throw new NotSeen(`${nodes.length} of ${cluster.lab.hosts.length} nodes are ready`);
    const named = nodes.map(({ hostname, address }) => `${hostname} ${address}`).sort();
    return `${list(named)} ready, with Docker Engine ${nodes[0]?.engineVersion ?? ""}`;
  });
}

/** The tasks that count, all of them running and ready. */
async function running(cluster: Cluster, replicas = REPLICAS): Promise<readonly TaskRow[]> {
  const tasks = await cluster.json<readonly TaskRow[]>(["service", "ps", "--filter", "desired-state=running", "web"]);
  const well = tasks.filter(({ state, ready }) => state === "running" && ready);
  if (tasks.length === replicas && well.length === replicas) return tasks;
  throw new NotSeen(`${well.length} of ${tasks.length} tasks are running and ready, there should be ${replicas}`);
}

/** What the engines themselves say; an old container may take a moment to stop after its task was replaced. */
async function expectContainers(cluster: Cluster, image: string): Promise<void> {
  const ps = ["ps", "--filter", "label=flotilla.service=web", "--format", "{{.Image}}"];
  await cluster.eventually(30_000, async () => {
    const perHost = await Promise.all(cluster.lab.hosts.map((n) => cluster.docker(n, ps)));
    const images = perHost.flatMap((text) => text.split("\n").filter(Boolean));
    if (images.length !== REPLICAS || images.some((other) => other !== image))
      throw new NotSeen(
        `the engines run ${images.length} containers of web (${images.join(", ")}), not ${REPLICAS} of ${image}`,
      );
  });
}

/** The demo image answers with its environment, which names its node. */
export function nodesIn(answers: string): readonly string[] {
  return [...new Set([...answers.matchAll(/\bFLOTILLA_NODE=(\S+)/g)].map(([, node = ""]) => node))].sort();
}

/** The demo image's second word is its version. */
export function versionsIn({ bodies }: LoadResult): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const [body, count] of Object.entries(bodies)) {
    const version = body.split(" ")[1] ?? "";
    counts[version] = (counts[version] ?? 0) + count;
  }
  return counts;
}

function describeLoad(from: string, result: LoadResult | undefined): string {
  if (result === undefined) throw new NotSeen(`no result of the load from ${from}`);
  const versions = Object.entries(versionsIn(result)).sort(([a], [b]) => a.localeCompare(b));
  const answered = list(versions.map(([version, count]) => `${count} by version ${version}`));
  return `${from}: ${result.ok + result.failed} requests, ${result.failed} failed; answered ${answered}; the slowest took ${result.slowestMs} ms`;
}

export function expectNothingFailed(result: LoadResult, expected: readonly string[]): void {
  const why = Object.entries(result.errors).map(([error, count]) => `${count} times ${error}`);
  if (result.failed > 0) throw new NotSeen(`${result.failed} requests failed: ${why.join(", ")}`);
  const versions = versionsIn(result);
  for (const version of expected)
    if ((versions[version] ?? 0) === 0) throw new NotSeen(`version ${version} answered no request under load`);
  const other = Object.keys(versions).filter((version) => !expected.includes(version));
  if (other.length > 0) throw new NotSeen(`version ${list(other)} answered under load`);
}
