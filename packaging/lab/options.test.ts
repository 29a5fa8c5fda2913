import { describe, expect, it } from "vitest";
import { ClusterError } from "../../lib/mod.js";
import { type LabOptions, differences, overlaps, resolve, subnetCandidates } from "./options.js";
import { dockerSocket, agentDataDir, rootInterface } from "./paths.js";

const refused = (options: LabOptions): string => {
  try {
    resolve(options);
  } catch (error) {
    expect(error).toBeInstanceOf(ClusterError);
    return (error as ClusterError).violations[0]!.field;
  }
  return "accepted";
};

describe("resolve", () => {
  it("fills in a lab of three hosts with one manager and nothing to install for it", () => {
    expect(resolve({})).toMatchObject({
      name: "default",
      hosts: 3,
      store: "raft",
      etcdMembers: 0,
      managers: 1,
      processes: true,
    });
  });

  it("gives two hosts one etcd member, for two would be worse than one", () => {
    expect(resolve({ hosts: 3, store: "etcd" }).etcdMembers).toBe(3);
    expect(resolve({ hosts: 2, store: "etcd" }).etcdMembers).toBe(1);
    expect(resolve({ hosts: 3, store: "memory" }).etcdMembers).toBe(0);
  });

  it.each<[LabOptions, string]>([
    [{ name: "../../etc" }, "name"],
    [{ name: "" }, "name"],
    [{ name: "a".repeat(21) }, "name"],
    [{ hosts: 0 }, "hosts"],
    [{ hosts: 2.5 }, "hosts"],
    [{ hosts: 33 }, "hosts"],
    [{ hosts: 2, managers: 3 }, "managers"],
    [{ managers: 3, store: "memory" }, "managers"],
    [{ store: "etcd", etcdMembers: 2 }, "etcd-members"],
    [{ store: "etcd", hosts: 3, etcdMembers: 5 }, "etcd-members"],
    [{ labels: ["zone"] }, "label"],
    [{ labels: ["zone=a b"] }, "label"],
    [{ hostLabels: { 4: ["zone=a"] } }, "label host"],
    [{ subnet: "192.168.1" }, "subnet"],
    [{ subnet: "10.300.0" }, "subnet"],
  ])("refuses %j, naming %s", (options, field) => {
    expect(refused(options)).toBe(field);
  });

  it("does not mind the order of images, nor one named twice", () => {
    expect(resolve({ images: ["demo", "busybox", "demo"] }).images).toEqual(["busybox", "demo"]);
  });
});

describe("differences", () => {
  const running = { ...resolve({ hosts: 3 }), subnet: "10.77.9" };

  it("is empty for the same options, whichever subnet was chosen", () => {
    expect(differences(running, resolve({ hosts: 3 }))).toEqual([]);
  });

  it("names each option that differs", () => {
    expect(differences(running, resolve({ hosts: 4, subnet: "10.77.8" }))).toEqual([
      "hosts is 3, not 4",
      'subnet is "10.77.9", not "10.77.8"',
    ]);
  });
});

describe("subnets", () => {
  it("starts the default lab at 10.77.0 and others elsewhere, and tries all 256", () => {
    const all = [...subnetCandidates("default")];
    expect(all[0]).toBe("10.77.0");
    expect(new Set(all).size).toBe(256);
    expect([...subnetCandidates("two")][0]).not.toBe("10.77.0");
    expect(new Set(subnetCandidates("two")).size).toBe(256);
  });

  it.each<[string, string, boolean]>([
    ["10.77.0.0/24", "10.77.0", true],
    ["10.77.0.17", "10.77.0", true],
    ["10.0.0.0/8", "10.77.3", true],
    ["10.77.0.128/25", "10.77.0", true],
    ["10.77.1.0/24", "10.77.0", false],
    ["192.168.0.0/16", "10.77.0", false],
    ["default", "10.77.0", false],
    ["172.17.0.0/16", "10.77.0", false],
  ])("route %s meets %s: %s", (route, subnet, meets) => {
    expect(overlaps(route, subnet)).toBe(meets);
  });
});

describe("names on the machine", () => {
  const longest = "a".repeat(20);

  it("keeps Unix sockets below 108 bytes and interfaces at 15 characters", () => {
    expect(dockerSocket(longest, 32).length).toBeLessThan(108);
    expect(`${agentDataDir(longest, 32)}/ambassador.sock`.length).toBeLessThan(108);
    expect(rootInterface("default")).toBe("flo-default");
    expect(rootInterface(longest).length).toBeLessThanOrEqual(15);
    expect(rootInterface(`${longest.slice(1)}b`)).not.toBe(rootInterface(longest));
  });
});
