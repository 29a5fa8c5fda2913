// Managers that keep the cluster in a real etcd: they elect among themselves, and etcd refuses who leads no more.

import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { BUSYBOX_IMAGE, Lab } from "../../packaging/lab/mod.js";
import { LabCluster, eventually } from "../kit/lab.js";

const name = "etcd";
let cluster: LabCluster;
let lab: Lab;

interface Status {
  leader: { name: string } | null;
  term: number;
  store: string;
  writable: boolean;
  managers: { name: string; state: string }[];
}

const status = () => cluster.json<Status>("cluster", "status");
const managerAt = (n: number) => `${lab.address(n)}:7400`;
const create = (name: string, ...to: string[]) =>
  cluster.run([...to, "service", "create", "--detach", "--name", name, "--replicas", "0", BUSYBOX_IMAGE]);
const namesAt = async (n: number) =>
  (await cluster.must("--host", managerAt(n), "service", "ls", "--format", "{{.Name}}"))
    .split("\n")
    .filter(Boolean)
    .sort();

const leaderHost = () => cluster.leaderHost(3);

const fence = async () =>
  (
    await lab.mustExec(1, [
      ...["env", "ETCDCTL_API=3", "etcdctl", "--endpoints", lab.etcdEndpoints.join(",")],
      ...["get", "--print-value-only", `/flotilla/${name}/fence`],
    ])
  ).trim();

beforeAll(async () => {
  await Lab.down(name);
  lab = await Lab.up({ name, hosts: 3, managers: 3, store: "etcd", images: ["busybox"] });
  cluster = new LabCluster(lab);
});
afterAll(async () => {
  await Lab.down(name);
});
afterEach(async () => {
  await leaderHost();
  await cluster.clear();
});

describe("three managers on a real etcd", () => {
  it("are not taken for the etcd beside them", async () => {
    const { code, stderr } = await cluster.run(["--host", `${lab.address(1)}:2379`, "service", "ls"]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^cause: \S+:2379: what listens there is no manager of this version/m);
  });

  it("elect a leader among themselves; each leader leaves its term in the fence", async () => {
    const { store, term } = await status();
    expect(store).toBe("etcd");
    expect(await fence()).toBe(`${"0".repeat(16)}${term.toString(16).padStart(16, "0")}`);
    const leader = await leaderHost();
    await lab.kill("manager", leader);
    expect((await create("after")).code).toBe(0);
    await lab.start("manager", leader);
    await leaderHost();
    const next = (await status()).term;
    expect(next).toBeGreaterThan(term);
    expect(await fence()).toBe(`${"0".repeat(16)}${next.toString(16).padStart(16, "0")}`);
    for (const n of lab.hosts) expect(await namesAt(n)).toEqual(["after"]);
  });

  it("a leader that sees etcd and not the other managers writes nothing once another leads", async () => {
    const leader = await leaderHost();
    const others = lab.hosts.filter((n) => n !== leader);
    const rules = others.map((n) => ["INPUT", "-p", "tcp", "-s", lab.address(n), "--dport", "7400", "-j", "DROP"]);
    const answers = others.map((n) => ["INPUT", "-p", "tcp", "-s", lab.address(n), "--sport", "7400", "-j", "DROP"]);
    for (const rule of [...rules, ...answers]) await lab.mustExec(leader, ["iptables", "-w", "-I", ...rule]);
    try {
      const kept = await create("kept", "--host", others.map(managerAt).join(","));
      expect(kept.code, kept.stderr).toBe(0);
      const lost = await create("lost", "--host", managerAt(leader));
      expect(lost.code, lost.stderr).toBe(1);
    } finally {
      for (const rule of [...rules, ...answers]) await lab.mustExec(leader, ["iptables", "-w", "-D", ...rule]);
    }
    await leaderHost();
    for (const n of lab.hosts) expect(await namesAt(n)).toEqual(["kept"]);
  });

  it("a leader that stood still (SIGSTOP) writes nothing when it goes on", async () => {
    const leader = await leaderHost();
    lab.pause("manager", leader);
    expect((await create("meanwhile")).code).toBe(0);
    const before = await fence();
    lab.resume("manager", leader);
    expect(await leaderHost()).not.toBe(leader);
    expect(await fence()).toBe(before);
    expect(await namesAt(leader)).toEqual(["meanwhile"]);
  });

  it("an etcd member killed: nothing noticed; quorum lost: writes refused clearly, services untouched, all well on return", async () => {
    await cluster.must("service", "create", "--name", "web", "--replicas", "3", BUSYBOX_IMAGE);
    const containers = async () =>
      (await Promise.all(lab.hosts.map((n) => cluster.containers(n, "web")))).flat().sort();
    const before = await containers();
    await lab.kill("etcd", 3);
    await cluster.must("service", "create", "--name", "one", BUSYBOX_IMAGE);
    await lab.kill("etcd", 2);
    // The first write after the loss may be on its way in etcd: it is done, refused, or said to be unknown.
    const first = await cluster.run(["service", "create", "-d", "--name", "perhaps", BUSYBOX_IMAGE]);
    const mayExist = first.code === 0 || /may or may not/.test(first.stderr);
    // From then on the loss is known, and a refusal is certain.
    const refused = await cluster.run(["service", "create", "-d", "--name", "two", BUSYBOX_IMAGE]);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/etcd/);
    expect(refused.stderr).not.toMatch(/may or may not/);
    await lab.start("etcd", 2);
    await lab.start("etcd", 3);
    await eventually(
      "writes are taken again",
      async () => (await cluster.run(["service", "create", "--name", "three", BUSYBOX_IMAGE])).code === 0,
    );
    expect(await containers()).toEqual(before);
    const names = await namesAt(1);
    expect(names.filter((name) => name !== "perhaps")).toEqual(["one", "three", "web"]);
    if (!mayExist) expect(names).not.toContain("perhaps");
  });
});
