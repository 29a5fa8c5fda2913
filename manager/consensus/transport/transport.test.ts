import { afterEach, describe, expect, it } from "vitest";
import { createServer, type Server as TcpServer, type Socket } from "node:net";
import { Client, credentials, Server, ServerCredentials, type ServiceError } from "@grpc/grpc-js";
import type { Message, MessageOf } from "raft-ts";
import { seededRng, silentLogger, systemClock } from "../../../lib/mod.js";
import { fromServiceError } from "../../../proto/errors.js";
import { type Greeting, RaftService } from "../../../proto/gen/flotilla/raft/v1/raft.js";
import { eventually, freePort } from "../../../test/kit/consensus.js";
import { Handlers } from "../../rpc/mod.js";
import { greetingFrame, messagesFrame, encode, parseFrame } from "./frame.js";
import { RaftTransport, raftService } from "./mod.js";
import { SendQueue } from "./queue.js";

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

function heartbeat(from: number, to: number, readId = 0): MessageOf<"MsgHeartbeat"> {
  return { type: "MsgHeartbeat", from, to, term: 1, commit: 0, readId };
}

function append(from: number, to: number, bytes: number, index = 1): MessageOf<"MsgApp"> {
  const data = new Uint8Array(bytes).fill(7);
  return {
    type: "MsgApp",
    from,
    to,
    term: 1,
    prevIndex: index - 1,
    prevTerm: 1,
    commit: 0,
    entries: [{ term: 1, index, type: "normal", data }],
  };
}

interface End {
  id: number;
  address: string;
  transport: RaftTransport;
  received: Message[];
  unreachable: number[];
  snapshots: { index: number; bytes: number }[];
  removed: string[];
  twice: string[];
  gone: Set<number>;
  /** Called with each chunk of a snapshot that comes in. */
  onChunk: () => Promise<void>;
  close(): Promise<void>;
  listen(): Promise<void>;
}

/** Each end is another process. */
let starts = 0;

async function end(
  id: number,
  options: { clusterId?: string; epoch?: number; address?: string; says?: string } = {},
): Promise<End> {
  const address = options.address ?? `127.0.0.1:${await freePort()}`;
  const gone = new Set<number>();
  const removed: string[] = [];
  const twice: string[] = [];
  const transport = new RaftTransport({
    host: {
      clusterId: options.clusterId ?? "c",
      epoch: options.epoch ?? 1,
      id,
      address: options.says ?? address,
      isGone: (other) => gone.has(other),
    },
    clock: systemClock,
    rng: seededRng(id + (starts += 1) * 1_000),
    log: silentLogger,
    onRemoved: (message) => removed.push(message),
    onTwice: (message) => twice.push(message),
  });
  let server: Server | undefined;
  const made: End = {
    id,
    address,
    transport,
    received: [],
    unreachable: [],
    snapshots: [],
    removed,
    twice,
    gone,
    onChunk: () => Promise.resolve(),
    async close() {
      server?.forceShutdown();
      await transport[Symbol.asyncDispose]();
    },
    async listen() {
      const fresh = new Server();
      server = fresh;
      fresh.addService(
        raftService,
        transport.handlers(new Handlers(silentLogger, () => undefined), () =>
          Promise.reject(new Error("no join here")),
        ),
      );
      await new Promise<void>((resolve, reject) =>
        fresh.bindAsync(address, ServerCredentials.createInsecure(), (error) =>
          error === null ? resolve() : reject(error),
        ),
      );
    },
  };
  transport.attach({
    receive: (messages) => made.received.push(...messages),
    reportUnreachable: (peer) => made.unreachable.push(peer),
    async receiveSnapshot(message, chunks) {
      let bytes = 0;
      for await (const chunk of chunks) {
        bytes += chunk.length;
        await made.onChunk();
      }
      made.snapshots.push({ index: message.snapshot.index, bytes });
    },
  });
  ends.push(() => made.close());
  await made.listen();
  return made;
}

function member({ id, address }: { id: number; address: string }) {
  return { id, name: `h${id}`, address, httpAddress: address, nonce: "", learner: false };
}

/** Opens a stream to `address` with that greeting and resolves with the refusal. */
function refusal(address: string, greeting: Greeting | undefined): Promise<ReturnType<typeof fromServiceError>> {
  const client = new Client(address, credentials.createInsecure());
  const asIs = (bytes: Buffer) => bytes;
  const call = client.makeBidiStreamRequest(RaftService.messages.path, asIs, asIs);
  return new Promise<ReturnType<typeof fromServiceError>>((resolve, reject) => {
    call.on("data", () => reject(new Error("it was welcome")));
    call.on("error", (error: ServiceError) => resolve(fromServiceError(error)));
    call.write(greeting === undefined ? messagesFrame([encode(heartbeat(2, 1))]) : greetingFrame(greeting));
  }).finally(() => client.close());
}

describe("frames", () => {
  it("are the protobuf message that the contract says, and come back as they were", async () => {
    const { RaftMessages } = await import("../../../proto/gen/flotilla/raft/v1/raft.js");
    const messages = [heartbeat(1, 2), append(1, 2, 300), append(1, 2, 0, 2)];
    const frame = messagesFrame(messages.map(encode));
    expect(RaftMessages.decode(frame).messages.map((bytes) => bytes.length)).toEqual(
      messages.map((message) => encode(message).bytes),
    );
    const back = parseFrame(frame).messages.map((message) => Buffer.concat(encode(message).parts).toString("hex"));
    expect(back).toEqual(messages.map((message) => Buffer.concat(encode(message).parts).toString("hex")));
    expect(() => parseFrame(frame.subarray(0, frame.length - 1))).toThrow(/cut short/);
    expect(() => parseFrame(Buffer.from([0x1a, 0]))).toThrow(/unknown field/);
  });
});

describe("the queue to a peer", () => {
  it("lets what is urgent go first, keeps the order of the rest, and drops what does not fit", () => {
    const queue = new SendQueue({ messagesMax: 4, bytesMax: 10_000 });
    expect(queue.push(append(1, 2, 6_000, 1))).toBe(true);
    expect(queue.push(append(1, 2, 6_000, 2))).toBe(false);
    expect(queue.push(append(1, 2, 100, 3))).toBe(true);
    expect(queue.push(heartbeat(1, 2))).toBe(true);
    const types = (taken: ReturnType<typeof queue.take>) =>
      parseFrame(messagesFrame(taken)).messages.map(({ type }) => type);
    expect(types(queue.take(1_000, true))).toEqual(["MsgHeartbeat"]);
    expect(queue.push(heartbeat(1, 2))).toBe(true);
    expect(types(queue.take(1_000, false))).toEqual(["MsgHeartbeat"]);
    const rest = parseFrame(messagesFrame(queue.take(100_000, false))).messages as MessageOf<"MsgApp">[];
    expect(rest.map(({ entries }) => entries[0]?.index)).toEqual([1, 3]);
    expect([queue.length, queue.bytes]).toEqual([0, 0]);
    for (let i = 0; i < 4; i += 1) expect(queue.push(heartbeat(1, 2))).toBe(true);
    expect(queue.push(heartbeat(1, 2))).toBe(false);
  });

  it("takes one message that is larger than all the room there is", () => {
    const queue = new SendQueue({ messagesMax: 4, bytesMax: 1_000 });
    expect(queue.push(append(1, 2, 5_000))).toBe(true);
    expect(queue.take(100, false)).toHaveLength(1);
  });
});

describe("two managers", () => {
  it("carry messages both ways; one that only the other knows says where it is", async () => {
    const [one, two] = [await end(1), await end(2)];
    one.transport.setMembers([member(one), member(two)]);
    // The second one is told nothing of the first.
    await eventually("both are connected", () => [one, two].every(({ transport }) => transport.peers()[0]?.connected));
    await eventually("a message came", () => {
      one.transport.send(2, [heartbeat(1, 2, 5), append(1, 2, 100)]);
      return two.received.length > 0;
    });
    expect(two.received.slice(0, 2)).toMatchObject([{ type: "MsgHeartbeat", readId: 5 }, { type: "MsgApp" }]);
    await eventually("an answer came", () => {
      two.transport.send(1, [{ type: "MsgHeartbeatResp", from: 2, to: 1, term: 1, readId: 5 }]);
      return one.received.some(({ type }) => type === "MsgHeartbeatResp");
    });
    expect(one.transport.peers()).toMatchObject([{ id: 2, connected: true, heard: true, problem: "" }]);
  });

  it("find each other again after one was away, and what was sent meanwhile is reported lost", async () => {
    const [one, two] = [await end(1), await end(2)];
    const members = [member(one), member(two)];
    one.transport.setMembers(members);
    await eventually("connected", () => one.transport.peers()[0]?.connected === true);
    await two.close();
    await eventually("noticed", () => one.transport.peers()[0]?.connected === false);
    one.unreachable.length = 0;
    await eventually("reported", () => {
      one.transport.send(2, [heartbeat(1, 2)]);
      return one.unreachable.includes(2);
    });
    expect(one.transport.peers()[0]?.problem).not.toBe("");
    const again = await end(2, { address: two.address });
    again.transport.setMembers(members);
    await eventually("a message came", () => {
      one.transport.send(2, [heartbeat(1, 2)]);
      return again.received.length > 0;
    });
  });

  it("follow a member to another address", async () => {
    const [one, two, moved] = [await end(1), await end(2), await end(2)];
    one.transport.setMembers([member(one), member(two)]);
    await eventually("connected", () => one.transport.peers()[0]?.connected === true);
    one.transport.setMembers([member(one), member(moved)]);
    await eventually("a message came there", () => {
      one.transport.send(2, [heartbeat(1, 2)]);
      return moved.received.length > 0;
    });
  });

  it("end the streams of one that is taken out, which is told", async () => {
    const [one, two] = [await end(1), await end(2)];
    one.transport.setMembers([member(one), member(two)]);
    two.transport.setMembers([member(one), member(two)]);
    await eventually("connected", () => [one, two].every(({ transport }) => transport.peers()[0]?.connected));
    one.gone.add(2);
    one.transport.setMembers([member(one)]);
    await eventually("told", () => two.removed.length > 0);
    expect(two.removed[0]).toMatch(/manager 2 .*was removed from the cluster/);
    expect(one.transport.peers()).toEqual([]);
  });

  it("send a snapshot, of any size, on a call of its own", async () => {
    const [one, two] = [await end(1), await end(2)];
    one.transport.setMembers([member(one), member(two)]);
    const confState = { voters: [1], votersOutgoing: [], learners: [2], learnersNext: [], autoLeave: false };
    const message: MessageOf<"MsgSnap"> = {
      type: "MsgSnap",
      from: 1,
      to: 2,
      term: 1,
      snapshot: { index: 9, term: 1, confState },
    };
    async function* chunks() {
      for (let i = 0; i < 20; i += 1) yield new Uint8Array(500_000);
    }
    let heartbeats = 0;
    two.onChunk = async () => {
      // The receiver's own pace; messages go on beside it.
      one.transport.send(2, [heartbeat(1, 2)]);
      await eventually("a heartbeat beside the snapshot", () => {
        heartbeats = two.received.length;
        if (heartbeats === 0) one.transport.send(2, [heartbeat(1, 2)]);
        return heartbeats > 0;
      });
    };
    await one.transport.sendSnapshot(message, chunks(), new AbortController().signal);
    expect(two.snapshots).toEqual([{ index: 9, bytes: 10_000_000 }]);

    two.onChunk = () => Promise.reject(new Error("the disk is full"));
    await expect(one.transport.sendSnapshot(message, chunks(), new AbortController().signal)).rejects.toThrow(
      /the disk is full/,
    );
    two.onChunk = () => new Promise(() => undefined);
    const controller = new AbortController();
    const stuck = one.transport.sendSnapshot(message, chunks(), controller.signal);
    controller.abort(new Error("given up"));
    await expect(stuck).rejects.toThrow();
    one.gone.add(1);
    two.gone.add(1);
    await expect(one.transport.sendSnapshot(message, chunks(), new AbortController().signal)).rejects.toMatchObject({
      code: "failed_precondition",
    });
  });
});

describe("a greeting", () => {
  it("is refused with the reason when it is another's", async () => {
    const one = await end(1, { epoch: 2 });
    one.gone.add(7);
    const good: Greeting = { clusterId: "c", epoch: 2, from: 2, to: 1, address: "127.0.0.1:9", incarnation: "a" };
    const refused = async (greeting: Greeting | undefined) => await refusal(one.address, greeting);
    expect(await refused({ ...good, clusterId: "other" })).toMatchObject({
      code: "failed_precondition",
      message: `${one.address} is of cluster c, and manager 2 (127.0.0.1:9) of cluster other`,
    });
    const older = await refused({ ...good, epoch: 1 });
    expect(older.message).toMatch(/is of epoch 1, and the cluster was recovered without it since: .* is at epoch 2$/);
    expect(older.details).toEqual({ epoch: "2" });
    expect((await refused({ ...good, epoch: 3 })).message).toMatch(
      /still of epoch 2: the cluster was recovered without it/,
    );
    expect((await refused({ ...good, to: 3 })).message).toMatch(/is manager 1, and .* looked for manager 3 there/);
    const gone = await refused({ ...good, from: 7 });
    expect([gone.message, gone.details]).toEqual([
      "manager 7 (127.0.0.1:9) was removed from the cluster",
      { removed: "7" },
    ]);
    expect((await refused(undefined)).message).toMatch(/begins with a greeting/);
    one.transport.setMembers([member(one), member({ id: 2, address: "127.0.0.1:8" })]);
    expect((await refused(good)).message).toMatch(
      /^manager 2 is at 127\.0\.0\.1:8, and a process at 127\.0\.0\.1:9 says that it is the same one: .*copied/,
    );
    expect(one.received).toEqual([]);
  });
});

describe("a cluster that was recovered", () => {
  it("tells those of the older epoch, for whom it is final; their word is nothing to it", async () => {
    const [recovered, old] = [await end(1, { epoch: 1 }), await end(2, { epoch: 0 })];
    old.transport.setMembers([member(recovered), member(old)]);
    recovered.transport.setMembers([member(recovered), member(old)]);
    await eventually("the old one is told", () => old.removed.length > 0);
    expect(old.removed[0]).toMatch(/^manager 2 .* is of epoch 0, and the cluster was recovered without it since/);
    await eventually("the recovered one was refused", () =>
      /still of epoch 0/.test(recovered.transport.peers()[0]?.problem ?? ""),
    );
    expect(recovered.removed).toEqual([]);
  });

  it("is nothing to another cluster, whatever its epoch", async () => {
    const [foreign, one] = [await end(1, { epoch: 9, clusterId: "other" }), await end(2, { epoch: 0 })];
    one.transport.setMembers([member(foreign), member(one)]);
    await eventually("it was refused", () => /of cluster other/.test(one.transport.peers()[0]?.problem ?? ""));
    expect(one.removed).toEqual([]);
  });
});

describe("two processes that are the same member", () => {
  it("the one that is heard of stays, the other is told; once the first is gone it is taken", async () => {
    const [one, first] = [await end(1), await end(2)];
    const members = [member(one), member(first)];
    first.transport.setMembers(members);
    one.transport.setMembers(members);
    const speak = (from: End) => from.transport.send(1, [heartbeat(2, 1)]);
    await eventually("connected", () => [one, first].every(({ transport }) => transport.peers()[0]?.connected));
    // A copy of its directory, on the address that the membership has, as behind another listener.
    const copy = await end(2, { says: first.address });
    const silence = new AbortController();
    const talk = (async () => {
      while (!silence.signal.aborted) {
        speak(first);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    })();
    copy.transport.setMembers(members);
    await eventually("the copy was told", () => copy.twice.length > 0);
    expect(copy.twice[0]).toMatch(/^manager 2 \(.*\) is in touch with .* already, from another process: .*copied/);
    expect(first.twice).toEqual([]);
    expect(one.transport.peers()).toMatchObject([{ id: 2, connected: true, heard: true }]);
    silence.abort();
    await talk;
    await first.close();
    await eventually("the other one is taken", () => copy.transport.peers()[0]?.connected === true);
  });
});

describe("a peer in trouble", () => {
  /** Takes connections and reads nothing. */
  async function deaf(): Promise<{ address: string; server: TcpServer }> {
    const port = await freePort();
    const sockets: Socket[] = [];
    const server = createServer({ pauseOnConnect: true }, (socket) => sockets.push(socket));
    await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
    ends.push(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    return { address: `127.0.0.1:${port}`, server };
  }

  it("delays no other, and costs no more memory than the queue has", async () => {
    const [one, two, { address }] = [await end(1), await end(2), await deaf()];
    one.transport.setMembers([member(one), member(two), member({ id: 3, address })]);
    await eventually("the good one is connected", () => one.transport.peers()[0]?.connected === true);
    for (let i = 0; i < 200; i += 1) one.transport.send(3, [append(1, 3, 1_000_000, i + 1)]);
    await eventually("what does not fit is reported", () => one.unreachable.includes(3));
    await eventually("the good one hears", () => {
      one.transport.send(2, [heartbeat(1, 2)]);
      return two.received.length > 0;
    });
    expect(one.transport.peers().find(({ id }) => id === 3)).toMatchObject({ connected: false, heard: false });
  });
});
