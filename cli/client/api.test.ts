// Against a real gRPC server on loopback.

import { connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { systemClock } from "../../lib/clock.js";
import { ClusterError } from "../../lib/errors.js";
import { seededRng } from "../../lib/rng.js";
import { Failure } from "../exit.js";
import { eventually } from "../../test/kit/consensus.js";
import { FakeControl, thenWait } from "../../test/kit/cli/server.js";
import { spec, state } from "../../test/kit/cli/states.js";
import type { Limits } from "./api.js";
import { ControlApi } from "./mod.js";

const ends: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (let end = ends.pop(); end !== undefined; end = ends.pop()) await end();
});

async function manager(answers: FakeControl["answers"]): Promise<FakeControl> {
  const fake = await FakeControl.start(answers);
  ends.push(() => fake.kill());
  return fake;
}

function api(addresses: string[], limits: Partial<Limits> = {}, notice?: (text: string) => void): ControlApi {
  const made = new ControlApi({
    managers: { addresses, source: "--host" },
    clock: systemClock,
    rng: seededRng(1),
    limits,
    ...(notice === undefined ? {} : { notice }),
  });
  ends.push(() => made[Symbol.dispose]());
  return made;
}

/** Forwards to `target`; where `arrived` says so, the answer is lost: the connection breaks instead. */
async function lossy(target: string, arrived: () => boolean): Promise<string> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    const upstream = connect(Number(target.split(":")[1]), "127.0.0.1");
    for (const each of [socket, upstream]) {
      sockets.add(each);
      each.on("error", () => undefined);
    }
    socket.on("close", () => upstream.destroy());
    socket.pipe(upstream);
    upstream.on("data", (chunk) => {
      if (arrived()) socket.destroy();
      else socket.write(chunk);
    });
    upstream.on("close", () => socket.destroy());
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  ends.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const bound = server.address();
  if (bound === null || typeof bound === "string") throw new Error("no port");
  return `127.0.0.1:${bound.port}`;
}

/** True at the first time that `is` is, and not again. */
function once(is: () => boolean): () => boolean {
  let been = false;
  return () => {
    const now = !been && is();
    been ||= now;
    return now;
  };
}

async function thrown(work: Promise<unknown>): Promise<unknown> {
  return await work.then(
    () => undefined,
    (error: unknown) => error,
  );
}

const created = { service: state({}).service, rollout: undefined };

describe("calls", () => {
  it("go to the next manager when one is not there", async () => {
    const there = await manager({ getVersion: () => ({ version: "1", cluster: "c", store: "etcd" }) });
    expect((await api(["127.0.0.1:1", there.address]).version()).cluster).toBe("c");
  });

  it("say which managers were tried, why each failed, and what to do", async () => {
    const error = await thrown(api(["127.0.0.1:1", "127.0.0.1:2"]).services());
    expect(error).toBeInstanceOf(Failure);
    expect(error).toMatchObject({
      message: "cannot reach a manager at 127.0.0.1:1, 127.0.0.1:2 (from --host); is it running?",
      why: ["127.0.0.1:1: connect ECONNREFUSED 127.0.0.1:1", "127.0.0.1:2: connect ECONNREFUSED 127.0.0.1:2"],
    });
    expect((error as Failure).next.join()).toContain("--host");
  });

  it("say why a manager is not reached also where gRPC has forgotten it", async () => {
    // Another client's failure, a moment ago: gRPC shares it, without its reason.
    await thrown(api(["127.0.0.1:3"], { repeatMs: 0 }).services());
    const one = api(["127.0.0.1:3"], { repeatMs: 0 });
    const first = await thrown(one.services());
    expect((first as Failure).why[0]).toMatch(/^127\.0\.0\.1:3: (connect ECONNREFUSED|no connection; trying again)/);
    const real = "127.0.0.1:3: connect ECONNREFUSED 127.0.0.1:3";
    await eventually("gRPC has tried by itself", async () => {
      const { why } = (await thrown(one.services())) as Failure;
      expect(why.join()).not.toContain("null");
      return why[0] === real;
    });
    for (let i = 0; i < 20; i += 1) expect(((await thrown(one.services())) as Failure).why).toEqual([real]);
  });

  it("do not wait for ever for a manager that takes the connection and says nothing", async () => {
    const mute = createServer(() => undefined);
    await new Promise<void>((resolve) => {
      mute.listen(0, "127.0.0.1", resolve);
    });
    ends.push(() => void mute.close());
    const bound = mute.address();
    const address = `127.0.0.1:${typeof bound === "object" ? bound?.port : 0}`;
    const error = await thrown(api([address], { connectMs: 200, answerMs: 200, repeatMs: 100 }).services());
    expect(error).toBeInstanceOf(Failure);
  });

  it("give the manager's own refusal, whole", async () => {
    const violations = [{ field: "name", value: "X", rule: "must be lower-case", fix: "write x" }];
    const fake = await manager({
      createService: () => {
        throw ClusterError.invalid(violations);
      },
    });
    const error = await thrown(api([fake.address]).createService(spec("x", 1)));
    expect(error).toMatchObject({ code: "invalid_argument", violations });
    expect(fake.asked).toHaveLength(1);
  });

  it("wait for a store that is away, say so once, and in the end give the manager's own words", async () => {
    const fake = await manager({
      createService: () => {
        throw new ClusterError("unavailable", "the store has no quorum");
      },
    });
    const told: string[] = [];
    const limits = { repeatMs: 500, quietMs: 100 };
    expect(
      await thrown(api([fake.address], limits, (text) => told.push(text)).createService(spec("x", 1))),
    ).toMatchObject({ message: "the store has no quorum" });
    expect(told).toEqual(["waiting: the store has no quorum"]);
    const ids = fake.asked.map(({ request }) => (request as { requestId: string }).requestId);
    expect(ids.length).toBeGreaterThan(1);
    expect(new Set(ids).size).toBe(1);
  });

  it("send a write again with the same id when its answer is lost", async () => {
    let eat = false;
    const fake = await manager({
      createService: () => {
        eat = fake.asked.length === 1;
        return created;
      },
    });
    const address = await lossy(
      fake.address,
      once(() => eat),
    );
    const response = await api([address]).createService(spec("x", 1));
    expect(response.service?.spec?.name).toBe("web");
    const ids = fake.asked.map(({ request }) => (request as { requestId: string }).requestId);
    expect(ids.length).toBeGreaterThan(1);
    expect(new Set(ids).size).toBe(1);
    expect(ids[0]).toMatch(/^[0-9a-z]{25}$/);
  });

  it("give different writes different ids", async () => {
    const fake = await manager({ createService: () => created, scaleService: () => created });
    const client = api([fake.address]);
    await client.createService(spec("x", 1));
    await client.scaleService("x", 2);
    const ids = fake.asked.map(({ request }) => (request as { requestId: string }).requestId);
    expect(new Set(ids).size).toBe(2);
  });

  it("repeat when the manager itself does not know whether it was done", async () => {
    const fake = await manager({
      scaleService: () => {
        if (fake.asked.length < 3) throw new ClusterError("unknown_outcome", "etcd did not answer");
        return created;
      },
    });
    await api([fake.address]).scaleService("web", 2);
    expect(fake.asked).toHaveLength(3);
  });

  it("admit that they do not know, when the answers stay lost", async () => {
    const fake = await manager({ createService: () => created });
    const address = await lossy(fake.address, () => fake.asked.length > 0);
    const error = await thrown(api([address], { repeatMs: 300 }).createService(spec("x", 1)));
    expect(error).toBeInstanceOf(Failure);
    expect((error as Failure).message).toContain("may or may not have been");
  });

  it("take 'not found' after a lost removal as its success, and only then", async () => {
    let eat = false;
    const fake = await manager({
      removeService: () => {
        eat = fake.asked.length === 1;
        if (fake.asked.length > 1) throw new ClusterError("not_found", 'no service "web"');
        return created;
      },
    });
    const address = await lossy(
      fake.address,
      once(() => eat),
    );
    expect(await api([address]).removeService("web")).toBe("web");
    expect(await thrown(api([fake.address]).removeService("web"))).toMatchObject({ code: "not_found" });
  });

  it("follow the leader that another manager names, and remember it", async () => {
    const leader = await manager({ getVersion: () => ({ version: "1", cluster: "lead", store: "raft" }) });
    const other = await manager({
      getVersion: () => {
        throw new ClusterError("not_leader", "not the leader", { details: { leader: leader.address } });
      },
    });
    const client = api([other.address]);
    expect((await client.version()).cluster).toBe("lead");
    await client.version();
    expect(other.asked).toHaveLength(1);
  });

  it("ask the leader that is named next, before the others, though the list does not have it", async () => {
    const version = () => ({ version: "1", cluster: "lead", store: "raft" });
    const leader = await manager({ getVersion: version });
    const third = await manager({ getVersion: version });
    const follower = await manager({
      getVersion: () => {
        throw new ClusterError("not_leader", "not the leader", { details: { leader: leader.address } });
      },
    });
    await api([follower.address, third.address]).version();
    expect([follower, leader, third].map(({ asked }) => asked.length)).toEqual([1, 1, 0]);
  });

  it("try again when the leader that is named is not there, or names the one that named it", async () => {
    const follower = await manager({
      getVersion: () => {
        const to = ["127.0.0.1:1", follower.address, ""][fake.length];
        if (to === undefined) return { version: "1", cluster: "c", store: "raft" };
        fake.push(to);
        throw new ClusterError("not_leader", "not the leader", { details: { leader: to } });
      },
    });
    const fake: string[] = [];
    const told: string[] = [];
    const client = api([follower.address], { quietMs: 0 }, (text) => told.push(text));
    expect((await client.version()).cluster).toBe("c");
    expect(fake).toHaveLength(3);
    expect(told).toEqual(["waiting for the managers to elect a leader"]);
  });

  it("leave a manager that hangs for another one", async () => {
    let hanging = 0;
    const hangs = await manager({
      getVersion: () => {
        hanging += 1;
        return new Promise(() => undefined);
      },
    });
    const well = await manager({ getVersion: () => ({ version: "1", cluster: "c", store: "raft" }) });
    const client = api([hangs.address, well.address], { answerFirstMs: 100 });
    expect((await client.version()).cluster).toBe("c");
    await client.version();
    expect(hanging).toBe(1);
  });

  it("wait for an election, but not for ever", async () => {
    const fake = await manager({
      getVersion: () => {
        if (fake.asked.length < 3) throw new ClusterError("not_leader", "no leader now");
        return { version: "1", cluster: "c", store: "raft" };
      },
    });
    expect((await api([fake.address]).version()).cluster).toBe("c");
    const never = await manager({
      getVersion: () => {
        throw new ClusterError("not_leader", "no leader now");
      },
    });
    expect(await thrown(api([never.address], { repeatMs: 300 }).version())).toMatchObject({ code: "not_leader" });
  });
});

describe("streams", () => {
  it("come from the first manager that is there, and end with the signal", async () => {
    const fake = await manager({ watchService: (_, signal) => thenWait([state({}), state({ revision: 2 })], signal) });
    const controller = new AbortController();
    const seen: number[] = [];
    for await (const each of api(["127.0.0.1:1", fake.address]).watchService("web", controller.signal)) {
      seen.push(each.service?.revision ?? 0);
      if (seen.length === 2) controller.abort();
    }
    expect(seen).toEqual([1, 2]);
  });

  it("throw the manager's error, and a broken connection as unavailable", async () => {
    const fake = await manager({
      async *watchService(request) {
        if (request.service === "gone") throw new ClusterError("not_found", "no service");
        yield await Promise.resolve(state({}));
        await new Promise(() => undefined);
      },
    });
    const read = async (name: string, seen: () => void) => {
      for await (const _ of api([fake.address]).watchService(name, new AbortController().signal)) seen();
    };
    expect(await thrown(read("gone", () => undefined))).toMatchObject({ code: "not_found" });
    const error = await thrown(read("web", () => fake.kill()));
    expect(error).toBeInstanceOf(ClusterError);
    expect(["unavailable", "cancelled", "internal"]).toContain((error as ClusterError).code);
  });
});
