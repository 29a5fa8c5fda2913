// Three nodes that count together, in one process to keep it short. In a cluster each is a process of its own with a
// directory of its own, and its Transport carries messages over a network (encodeMessage and decodeMessage help).

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Clock, type Logger, RaftError, RaftNode, type StateMachine, type Transport } from "raft-ts/node";

/** The replicated state. Every node applies the same entries in the same order, so all have the same number. */
class Counter implements StateMachine {
  value = 0;

  apply(entry: { data: Uint8Array }): number {
    this.value += Number(new TextDecoder().decode(entry.data));
    return this.value;
  }

  configured(): void {}

  snapshot(): Iterable<Uint8Array> {
    return [new TextEncoder().encode(String(this.value))];
  }

  async restore(chunks: AsyncIterable<Uint8Array>): Promise<void> {
    let text = "";
    for await (const chunk of chunks) {
      text += new TextDecoder().decode(chunk);
    }
    this.value = Number(text);
  }
}

const nodes = new Map<number, RaftNode>();
const counters = new Map<number, Counter>();

const transport: Transport = {
  send(to, messages) {
    setImmediate(() => nodes.get(to)?.receive(messages));
  },
  async sendSnapshot(message, chunks) {
    await nodes.get(message.to)?.receiveSnapshot(message, chunks);
  },
};

const clock: Clock = {
  monotonic: () => performance.now(),
  after(ms, fn) {
    const timer = setTimeout(fn, ms);
    return () => clearTimeout(timer);
  },
};

const log: Logger = { debug() {}, info() {}, warn: (fields, message) => console.warn(message, fields) };

async function start(id: number, root: string): Promise<void> {
  const counter = new Counter();
  const node = await RaftNode.open({
    id,
    directory: join(root, String(id)),
    machine: counter,
    transport,
    clock,
    log,
    random: (n) => Math.floor(Math.random() * n),
    bootstrap: { voters: [1, 2, 3], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false },
    onFatal(error) {
      console.error(error);
      process.exit(1);
    },
    segmentBytes: 1 << 20,
  });
  nodes.set(id, node);
  counters.set(id, counter);
}

/** Asks whoever leads. Only "unknown" leaves open whether it was made; everything else may be tried again as it is. */
async function add(amount: number): Promise<string> {
  for (let attempt = 1; ; attempt++) {
    const leader = [...nodes.values()].find((node) => node.status().role === "leader");
    try {
      if (leader !== undefined) {
        return String(await leader.propose(new TextEncoder().encode(String(amount))));
      }
    } catch (error) {
      if (!(error instanceof RaftError) || error.code === "unknown") {
        throw error;
      }
    }
    if (attempt === 200) {
      throw new Error("no node leads");
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** What a client of any node sees once it asked for everything that is committed. */
async function read(id: number): Promise<number | undefined> {
  await nodes.get(id)?.readBarrier();
  return counters.get(id)?.value;
}

export async function main(say: (line: string) => void): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), "counter-"));
  await Promise.all([1, 2, 3].map((id) => start(id, root)));
  say(`after 5: ${await add(5)}`);
  say(`after 37: ${await add(37)}`);

  // One node ends and starts again: its log is its memory.
  await nodes.get(3)?.close();
  nodes.delete(3);
  say(`after 100: ${await add(100)}`);
  await start(3, root);
  say(`node 3 reads ${await read(3)}`);

  await Promise.all([...nodes.values()].map((node) => node.close()));
  await rm(root, { recursive: true });
}
