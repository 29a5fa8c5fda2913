// What users may rely on when managers fail: real manager processes on this machine, without agents. The lab's part, with
// containers and cut networks, is failover.test.ts.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
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

describe("a cluster that grows from 1 to 7 managers", () => {
  let managers: Managers;
  beforeAll(async () => {
    managers = await Managers.prepare({ count: 7 });
    await managers.init();
  });
  afterAll(async () => {
    await managers[Symbol.asyncDispose]();
  });

  it.each([1, 2, 3, 4, 5, 6, 7])(
    "%i: as many are lost as it tolerates, then one more, and all return",
    async (count) => {
      const members = managers.members.slice(0, count);
      const tolerated = Math.floor((count - 1) / 2);
      managers.member(count).start(count === 1 ? [] : [managers.member(1).address]);
      await managers.whole(count);
      using api = managers.api(members.map(({ address }) => address));
      await api.createService(spec(`whole-${count}`));
      const leader = await managers.leader();
      // The leader is among the lost ones.
      const order = [leader, ...members.filter((member) => member !== leader)];
      const lost = order.slice(0, tolerated + 1);
      const left = order.slice(tolerated + 1);
      const last = lost.pop()!;
      await Promise.all(lost.map((member) => member.kill()));
      await api.createService(spec(`tolerated-${count}`));
      await last.kill();
      if (left.length > 0) {
        using few = managers.api(
          left.map(({ address }) => address),
          { repeatMs: 500 },
        );
        // The first ones may have been on their way to the lost leader; once the loss is known, it is said.
        await eventually("a write is refused for want of a quorum", async () =>
          /quorum|leader/.test(await refused(few, "beyond")),
        );
        // Reads, too: what cannot be confirmed is not shown as current.
        await expect(few.services()).rejects.toThrow(/quorum|leader/);
      }
      for (const member of [...lost, last]) member.start();
      await managers.whole(count);
      const names = await namesAt(managers, members[0]!.address);
      for (let n = 1; n <= count; n += 1)
        expect(names).toEqual(expect.arrayContaining([`whole-${n}`, `tolerated-${n}`]));
      for (const { address } of members) expect(await namesAt(managers, address)).toEqual(names);
    },
  );
});
