import { afterEach, describe, expect, it } from "vitest";
import { Metadata, Server, ServerCredentials, credentials } from "@grpc/grpc-js";
import { ClusterError, seededRng, silentLogger, systemClock } from "../../lib/mod.js";
import { fromServiceError } from "../../proto/errors.js";
import {
  ControlClient,
  type ControlServer,
  ControlService,
  type ServiceLogsResponse,
} from "../../proto/gen/flotilla/control/v1/control.js";
import { eventually } from "../../test/kit/consensus.js";
import { type Member, notLeader, SoloConsensus, type Tenure } from "../consensus/mod.js";
import { EventLog } from "../events/mod.js";
import { Handlers } from "../rpc/mod.js";
import { openMemoryStore } from "../store/mod.js";
import { controlHandlers } from "./control.js";
import { Forwarder, forwardedKey } from "./forward.js";

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** Who leads is what the test says. */
class FakeConsensus extends SoloConsensus {
  says: { leader: Member | undefined; tenure: boolean } = { leader: undefined, tenure: false };
  readonly #listeners = new Set<() => void>();

  override leader(): Member | undefined {
    return this.says.leader;
  }

  override tenure(): Tenure | undefined {
    return this.says.tenure ? super.tenure() : undefined;
  }

  override onChange(listener?: () => void): () => void {
    if (listener !== undefined) this.#listeners.add(listener);
    return () => {
      if (listener !== undefined) this.#listeners.delete(listener);
    };
  }

  override health(): { ready: boolean; message: string } {
    return this.says.leader === undefined ? { ready: false, message: "no leader for 3 s" } : super.health();
  }

  change(says: Partial<FakeConsensus["says"]>): void {
    this.says = { ...this.says, ...says };
    for (const listener of this.#listeners) listener();
  }
}

interface Manager {
  consensus: FakeConsensus;
  client: ControlClient;
  calls: string[];
  server: Server;
  /** Instead of what pauseRollout does. */
  pause: () => Promise<never> | undefined;
}

async function manager(
  name: string,
  logs?: (signal: AbortSignal) => AsyncGenerator<ServiceLogsResponse>,
): Promise<Manager> {
  const server = new Server();
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  );
  const address = `127.0.0.1:${port}`;
  const consensus = new FakeConsensus({ clusterName: "c", name, address, httpAddress: address });
  const forwarder = new Forwarder({ consensus, clock: systemClock });
  const store = openMemoryStore();
  const handlers = new Handlers(silentLogger, () => undefined);
  const calls: string[] = [];
  const made = { consensus, calls, server, pause: () => undefined } as unknown as Manager;
  const control: ControlServer = {
    ...controlHandlers(handlers, {
      store,
      consensus,
      forwarder,
      clock: systemClock,
      rng: seededRng(1),
      events: () => new EventLog(store, systemClock),
      logs: () => {
        throw notLeader(undefined);
      },
      version: "1",
    }),
    pauseRollout: handlers.unary(
      "PauseRollout",
      forwarder.unary(ControlService.pauseRollout, async ({ service }) => {
        calls.push(service);
        await made.pause();
        return { rollout: undefined };
      }),
    ),
    serviceLogs: handlers.serverStream(
      "ServiceLogs",
      forwarder.stream(ControlService.serviceLogs, (_, signal) => {
        calls.push("logs");
        if (logs === undefined) throw notLeader(undefined);
        return logs(signal);
      }),
    ),
  };
  server.addService(ControlService, control);
  made.client = new ControlClient(address, credentials.createInsecure());
  ends.push(async () => {
    made.client.close();
    forwarder[Symbol.dispose]();
    server.forceShutdown();
    await store[Symbol.asyncDispose]();
  });
  return made;
}

function pause(of: Manager, service: string, metadata = new Metadata(), deadlineMs = 10_000): Promise<string> {
  return new Promise((resolve, reject) =>
    of.client.pauseRollout({ service, requestId: "" }, metadata, { deadline: Date.now() + deadlineMs }, (error) => {
      if (error === null) resolve("done");
      else reject(fromServiceError(error));
    }),
  );
}

function led(leader: Manager, ...followers: Manager[]): void {
  leader.consensus.change({ leader: leader.consensus.self, tenure: true });
  for (const { consensus } of followers) consensus.change({ leader: leader.consensus.self });
}

/** As manager 1 of everybody: the followers need another id than the leader's. */
async function follower(name: string): Promise<Manager> {
  const made = await manager(name);
  Object.defineProperty(made.consensus, "self", { value: { ...made.consensus.self, id: 2 } });
  return made;
}

describe("a call that is the leader's", () => {
  it("is answered there, whoever was asked", async () => {
    const [leader, other] = [await manager("h1"), await follower("h2")];
    led(leader, other);
    expect(await pause(other, "web")).toBe("done");
    expect(await pause(leader, "api")).toBe("done");
    expect([leader.calls, other.calls]).toEqual([["web", "api"], []]);
  });

  it("comes back with the leader's own refusal", async () => {
    const [leader, other] = [await manager("h1"), await follower("h2")];
    led(leader, other);
    leader.pause = () => Promise.reject(new ClusterError("conflict", "somebody else did", { details: { a: "b" } }));
    await expect(pause(other, "web")).rejects.toMatchObject({ code: "conflict", details: { a: "b" } });
  });

  it("goes no further than once: two that take each other for the leader end it", async () => {
    const [one, two] = [await manager("h1"), await follower("h2")];
    one.consensus.change({ leader: { ...two.consensus.self } });
    two.consensus.change({ leader: { ...one.consensus.self } });
    await expect(pause(one, "web")).rejects.toMatchObject({ code: "not_leader" });
    const forwarded = new Metadata();
    forwarded.set(forwardedKey, "1");
    await expect(pause(two, "web", forwarded)).rejects.toMatchObject({
      code: "not_leader",
      details: { leader: one.consensus.self.address },
    });
    expect([one.calls, two.calls]).toEqual([[], []]);
  });

  it("follows leadership that moves while it is on its way", async () => {
    const [old, asked] = [await manager("h1"), await follower("h2")];
    const next = await manager("h3");
    led(old, asked);
    next.consensus.change({ leader: next.consensus.self, tenure: true });
    old.pause = () => Promise.reject(notLeader(next.consensus.self.address));
    expect(await pause(asked, "web")).toBe("done");
    expect(next.calls).toEqual(["web"]);
  });

  it("is unavailable without a leader, and says why; not done where the leader cannot be reached", async () => {
    const asked = await follower("h2");
    await expect(pause(asked, "web")).rejects.toMatchObject({ code: "unavailable", message: "no leader for 3 s" });
    asked.consensus.change({ leader: { ...asked.consensus.self, id: 1, address: "127.0.0.1:1" } });
    await expect(pause(asked, "web")).rejects.toMatchObject({
      code: "unavailable",
      message: "the leader, 127.0.0.1:1, cannot be reached from here: nothing was done",
    });
  });

  it("has an unknown outcome when the leader ends with it", async () => {
    const [leader, other] = [await manager("h1"), await follower("h2")];
    led(leader, other);
    leader.pause = () => new Promise<never>(() => undefined);
    const asked = pause(other, "web");
    const outcome = expect(asked).rejects.toMatchObject({ code: "unknown_outcome" });
    await eventually("it came", () => leader.calls.length > 0);
    leader.server.forceShutdown();
    await outcome;
  });

  it("carries the caller's deadline", async () => {
    const [leader, other] = [await manager("h1"), await follower("h2")];
    led(leader, other);
    leader.pause = () => new Promise<never>(() => undefined);
    await expect(pause(other, "web", new Metadata(), 300)).rejects.toMatchObject({ code: "deadline_exceeded" });
  });

  it("waits for the tenure of one that was just elected", async () => {
    const leader = await manager("h1");
    leader.consensus.change({ leader: leader.consensus.self });
    const asked = pause(leader, "web");
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(leader.calls).toEqual([]);
    leader.consensus.change({ tenure: true });
    expect(await asked).toBe("done");
  });
});

describe("a stream that is the leader's", () => {
  it("is passed on as it comes, and ends there when its reader goes away", async () => {
    let ended = false;
    const leader = await manager("h1", async function* (signal) {
      try {
        for (let i = 0; !signal.aborted; i += 1) {
          yield { lines: [], warning: `w${i}` };
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      } finally {
        ended = true;
      }
    });
    const other = await follower("h2");
    led(leader, other);
    const call = other.client.serviceLogs({ service: "web", taskId: "", options: undefined });
    call.on("error", () => undefined);
    const warnings: string[] = [];
    for await (const message of call) {
      warnings.push((message as ServiceLogsResponse).warning);
      if (warnings.length === 3) break;
    }
    expect(warnings).toEqual(["w0", "w1", "w2"]);
    call.cancel();
    await eventually("it ended", () => ended);
  });
});

describe("the cluster's status", () => {
  const status = (of: Manager, local: boolean) =>
    new Promise<{ leaderId: number; writable: boolean; message: string; answeredBy: number }>((resolve, reject) =>
      of.client.getClusterStatus({ local }, (error, response) =>
        error === null && response !== undefined ? resolve(response) : reject(error),
      ),
    );

  it("is the leader's, or without one that of who is asked, and why", async () => {
    const [leader, other] = [await manager("h1"), await follower("h2")];
    led(leader, other);
    expect((await status(other, false)).answeredBy).toBe(1);
    expect((await status(other, true)).answeredBy).toBe(2);
    other.consensus.change({ leader: undefined });
    expect(await status(other, false)).toMatchObject({ answeredBy: 2, writable: false, message: "no leader for 3 s" });
  });
});
