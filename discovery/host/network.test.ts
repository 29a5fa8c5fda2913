import { describe, expect, it } from "vitest";
import { formatCidr, parseRange, parseIpv4 } from "../../lib/mod.js";
import { readSubnets } from "./addresses.js";
import { type Pools, type Ran, localRanges, poolConflicts, setUp } from "./network.js";

const cidr = (text: string) => parseRange(text) ?? expect.fail(`${text} is no range`);
const pools: Pools = {
  vipPool: cidr("10.127.0.0/16"),
  nodePool: cidr("10.128.0.0/10"),
  subnet: cidr("10.128.1.0/24"),
  dnsAddress: parseIpv4("10.127.0.53") ?? 0,
};

/** A host with these routes; `there` says which iptables rules exist. */
function host(routes: object[], there = true) {
  const ran: { command: string; args: readonly string[]; input: string | undefined }[] = [];
  const run = (command: string, args: readonly string[], input?: string): Promise<Ran> => {
    ran.push({ command, args, input });
    if (args.includes("-json")) return Promise.resolve({ code: 0, stdout: JSON.stringify(routes), stderr: "" });
    return Promise.resolve({ code: args.includes("-C") && !there ? 1 : 0, stdout: "", stderr: "" });
  };
  return { ran, run };
}

describe("the pools on a host", () => {
  it("leave the own subnet out", () => {
    const ranges = localRanges(pools, { vip: true, node: true }).map(formatCidr);
    expect(ranges).toContain("10.127.0.0/16");
    expect(ranges).toContain("10.127.0.53/32");
    expect(ranges).not.toContain("10.128.1.0/24");
    expect(ranges).toHaveLength(16);
  });

  it("never take away a network that the host reaches otherwise", async () => {
    const { run, ran } = host([
      { dst: "10.128.0.0/20", dev: "ens4" },
      { dst: "default", dev: "ens4" },
    ]);
    const { problems, ownsNodePool } = await setUp(pools, run);
    expect(ownsNodePool).toBe(false);
    expect(problems).toEqual([
      "the cluster's node pool 10.128.0.0/10 overlaps 10.128.0.0/20, which this host reaches by ens4: make the cluster with another node pool",
    ]);
    const batch = ran.find((one) => one.input !== undefined)?.input ?? "";
    expect(batch).toContain("10.127.0.0/16");
    expect(batch).not.toContain("10.128");
  });

  it("do not mind the own bridge, nor a route that only refuses", async () => {
    const { run } = host([
      { dst: "10.128.1.0/24", dev: "br-1" },
      { type: "prohibit", dst: "10.127.0.53" },
    ]);
    expect(await setUp(pools, run)).toEqual({ problems: [], ownsNodePool: true });
  });

  it("are shielded from Docker's published ports, once", async () => {
    const there = host([], true);
    await setUp(pools, there.run);
    expect(there.ran.filter((one) => one.args.includes("-I"))).toHaveLength(0);
    const absent = host([], false);
    await setUp(pools, absent.run);
    expect(absent.ran.filter((one) => one.args.includes("-I"))).toHaveLength(4);
  });

  it("say so when iproute2 is missing", async () => {
    const { problems } = await setUp(pools, () => Promise.reject(new Error("ip: spawn ip ENOENT")));
    expect(problems).toEqual(["the addresses of services cannot be set up on this host: ip: spawn ip ENOENT"]);
  });

  it("conflict only where ranges meet", () => {
    expect(poolConflicts(pools, [{ dst: "10.77.0.0/24", dev: "eth0" }])).toEqual({ vip: undefined, node: undefined });
    expect(poolConflicts(pools, [{ dst: "10.0.0.0/8", dev: "eth0" }]).vip).toContain("10.0.0.0/8");
  });
});

it("reads the bridges' subnets, those of filtered links left out", () => {
  const json = JSON.stringify([{}, { ifname: "docker0", addr_info: [{ local: "172.17.0.1", prefixlen: 16 }] }]);
  expect(readSubnets(json).map(formatCidr)).toEqual(["172.17.0.0/16"]);
  expect(readSubnets("")).toEqual([]);
});
