// What users may rely on when managers fail: real manager processes on this machine, without agents. The lab's part, with
// containers and cut networks, is failover.test.ts.

import { describe, expect, it } from "vitest";
import type { ControlApi } from "../../cli/client/mod.js";
import { eventually } from "../kit/lab.js";
import { History } from "../kit/history.js";
import { Managers } from "../kit/managers.js";
import { makeSpec } from "../kit/objects.js";

const spec = (name: string, value = "") => ({
  ...makeSpec({ name, replicas: 0, ports: [] }),
  labels: { value },
});

/** The names of all services, as one manager alone says: a read that asks a quorum. */
async function namesAt(managers: Managers, address: string): Promise<string[]> {
  using api = managers.api([address]);
  return (await api.services()).map(({ service }) => service?.spec?.name ?? "").sort();
}

async function refused(api: ControlApi, name: string): Promise<string> {
  try {
    await api.createService(spec(name));
    return "";
  } catch (failure) {
    return failure instanceof Error ? failure.message : String(failure);
  }
}

function users(managers: Managers, count: number): { apis: ControlApi[]; [Symbol.dispose](): void } {
  // Half of them know only one manager each, which finds the leader for them.
  const apis = Array.from({ length: count }, (_, i) =>
    i % 2 === 0 ? managers.api() : managers.api([...managers.addresses.slice(i % managers.members.length)]),
  );
  return {
    apis,
    [Symbol.dispose]() {
      for (const api of apis) api[Symbol.dispose]();
    },
  };
}

const seconds = (n: number) => new Promise((resolve) => setTimeout(resolve, n * 1_000));

describe("the leader is lost during 200 writes per second", () => {
  it.each([
    ["killed", 3],
    ["stopped and continued", 3],
  ] as const)("%s: every acknowledged write is there once, in an order that all saw", async (how, count) => {
    await using managers = await Managers.start({ count });
    using all = users(managers, 8);
    const history = new History({ apis: all.apis, prefix: "h", registers: 100, writesPerSecond: 200 });
    await history.start();
    await seconds(2);
    const leader = await managers.leader();
    const lostMs = performance.now();
    if (how === "killed") await leader.kill();
    else leader.pause();
    await seconds(4);
    if (how === "killed") leader.start();
    else leader.resume();
    await managers.whole(count);
    await seconds(1);
    await history.stop();
    const waitedMs = history.firstAcknowledgedAfter(lostMs);
    console.log(`${how}: ${history.acknowledged} acknowledged, the first after ${Math.round(waitedMs)} ms`);
    using api = managers.api();
    await history.check(api);
    expect(history.failures).toEqual([]);
    expect(history.acknowledged).toBeGreaterThan(200);
    // Nobody lags behind for ever.
    const names = await namesAt(managers, managers.member(1).address);
    for (const { address } of managers.members) expect(await namesAt(managers, address)).toEqual(names);
  });
});

describe.each([1, 2, 3, 4, 5, 6, 7])("%i managers", (count) => {
  const tolerated = Math.floor((count - 1) / 2);

  it(`live through the loss of ${tolerated}, refuse clearly beyond, and lose nothing on return`, async () => {
    await using managers = await Managers.start({ count });
    using api = managers.api(undefined, { repeatMs: 3_000 });
    await api.createService(spec("whole"));
    // The leader is among the lost ones.
    const leader = await managers.leader();
    const order = [leader, ...managers.members.filter((member) => member !== leader)];
    const lost = order.slice(0, tolerated);
    const oneMore = order[tolerated]!;
    const left = order.slice(tolerated);
    await Promise.all(lost.map((member) => member.kill()));
    await eventually("a write is taken", async () => (await refused(api, "tolerated")) === "" || taken(api));
    expect((await namesAt(managers, left[0]!.address)).sort()).toEqual(["tolerated", "whole"]);
    await oneMore.kill();
    const survivors = left.filter((member) => member !== oneMore);
    if (survivors.length > 0) {
      using few = managers.api(
        survivors.map(({ address }) => address),
        { repeatMs: 1_500 },
      );
      await eventually("a write is refused", async () => /quorum|leader|reach/.test(await refused(few, "beyond")));
      // Refused reads, too: what cannot be confirmed is not shown as current.
      await expect(few.services()).rejects.toThrow(/quorum|leader|reach/);
    }
    for (const member of [...lost, oneMore]) member.start();
    await managers.whole(count);
    const names = await namesAt(managers, managers.member(1).address);
    expect(names).toEqual(expect.arrayContaining(["tolerated", "whole"]));
    for (const { address } of managers.members) expect(await namesAt(managers, address)).toEqual(names);
    await api.createService(spec("returned"));
  });
});

async function taken(api: ControlApi): Promise<boolean> {
  return (await api.services()).some(({ service }) => service?.spec?.name === "tolerated");
}
