// A cluster in one process for tests: real directories, a clock that runs faster, a network with cuts. Messages go
// through their bytes, so that nodes share nothing.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { clearTimeout, setTimeout } from "node:timers";
import type { ConfChange, ConfState, Logger, Message, MessageOf, NodeId, SnapshotMeta } from "../core/mod.js";
import type { Leadership } from "../driver/mod.js";
import { decodeMessage, encodeMessage } from "../wire/mod.js";
import { type Clock, RaftError, type RaftNodeOptions, type StateMachine, type Transport } from "./api.js";
import type { FileSystem } from "./file-system.js";
import { RaftNode } from "./raft-node.js";

/** So many times faster than the world: a read's five seconds pass in little more than one. */
const haste = 4;

const now = (): number => Number(process.hrtime.bigint() / 1000n) / 1000;

export const clock: Clock = {
  monotonic: () => now() * haste,
  after(ms, fn) {
    const timer = setTimeout(fn, ms / haste);
    return () => clearTimeout(timer);
  },
};

export const quiet: Logger = { debug() {}, info() {}, warn() {} };

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

export function voters(...ids: NodeId[]): ConfState {
  return { voters: ids, votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
}

/** A list of what was applied. */
export class ListMachine implements StateMachine {
  list: string[] = [];
  confState: ConfState | undefined;
  contexts: string[] = [];
  restores = 0;
  /** Applying this ends in an exception. */
  poison: string | undefined;

  apply(entry: { index: number; term: number; data: Uint8Array }): unknown {
    const text = new TextDecoder().decode(entry.data);
    if (text === this.poison) {
      throw new Error("the state machine is broken");
    }
    this.list.push(text);
    return `${text} is number ${this.list.length}`;
  }

  configured(_index: number, confState: ConfState, context: Uint8Array): void {
    this.confState = confState;
    this.contexts.push(new TextDecoder().decode(context));
  }

  snapshot(): Iterable<Uint8Array> {
    const list = [...this.list];
    return (function* chunks() {
      for (const text of list) {
        yield bytes(`${text}\n`);
      }
    })();
  }

  async restore(chunks: AsyncIterable<Uint8Array>, meta: SnapshotMeta): Promise<void> {
    const all: Uint8Array[] = [];
    for await (const chunk of chunks) {
      all.push(chunk);
    }
    this.list = Buffer.concat(all).toString().split("\n").slice(0, -1);
    this.confState = meta.confState;
    this.restores++;
  }
}

/** Waits for something to come true; says what it waited for where it never does. */
export async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = now() + 15_000;
  while (!holds()) {
    if (now() > deadline) {
      throw new Error(`it never came true that ${what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

export class Cluster implements AsyncDisposable {
  readonly nodes = new Map<NodeId, RaftNode>();
  readonly machines = new Map<NodeId, ListMachine>();
  readonly fatal: Error[] = [];
  readonly leaderships = new Map<NodeId, (Leadership & { leading: boolean })[]>();
  /** Nothing gets from or to these. */
  readonly cut = new Set<NodeId>();
  snapshotsSent = 0;
  readonly #root: string;
  readonly #conf: ConfState;
  readonly #more: Partial<RaftNodeOptions>;
  readonly #files: FileSystem | undefined;
  #chance = 1;

  private constructor(root: string, conf: ConfState, more: Partial<RaftNodeOptions>, files: FileSystem | undefined) {
    this.#files = files;
    this.#root = root;
    this.#conf = conf;
    this.#more = more;
  }

  static async start(conf: ConfState, more: Partial<RaftNodeOptions> = {}, files?: FileSystem): Promise<Cluster> {
    const cluster = new Cluster(await mkdtemp(join(tmpdir(), "raft-node-")), conf, more, files);
    await Promise.all(conf.voters.map((id) => cluster.open(id)));
    return cluster;
  }

  directory(id: NodeId): string {
    return join(this.#root, String(id));
  }

  async open(id: NodeId): Promise<RaftNode> {
    const machine = new ListMachine();
    const told: (Leadership & { leading: boolean })[] = [];
    const node = await RaftNode.open(
      {
        id,
        directory: this.directory(id),
        machine,
        transport: this.#transport(id),
        clock,
        random: (n) => {
          this.#chance = (this.#chance * 48_271) % 2_147_483_647;
          return this.#chance % n;
        },
        bootstrap: this.#conf,
        onFatal: (error) => this.fatal.push(error),
        log: quiet,
        segmentBytes: 64 * 1024,
        ...this.#more,
      },
      this.#files,
    );
    node.onLeadership((now) => told.push(now));
    this.machines.set(id, machine);
    this.nodes.set(id, node);
    this.leaderships.set(id, told);
    return node;
  }

  async close(id: NodeId): Promise<void> {
    await this.node(id).close();
    this.nodes.delete(id);
  }

  node(id: NodeId): RaftNode {
    const node = this.nodes.get(id);
    if (node === undefined) {
      throw new Error(`node ${id} is not open`);
    }
    return node;
  }

  machine(id: NodeId): ListMachine {
    const machine = this.machines.get(id);
    if (machine === undefined) {
      throw new Error(`node ${id} was never open`);
    }
    return machine;
  }

  /** Waits until one leads, known as such to all members that are reachable; says which. */
  async leader(): Promise<NodeId> {
    let found = 0;
    await until("one node leads and all know it", () => {
      const reachable = [...this.nodes].filter(([id]) => !this.cut.has(id));
      const leading = reachable.filter(([id]) => this.leaderships.get(id)?.at(-1)?.leading);
      const [leader] = leading;
      if (leader === undefined || leading.length > 1) {
        return false;
      }
      found = leader[0];
      const members = new Set(leader[1].status().peers.map(({ id }) => id));
      return reachable.every(([id, node]) => !members.has(id) || node.status().lead === found);
    });
    return found;
  }

  /** Through whoever leads, once: also where leadership moves meanwhile, as it may on a busy machine. */
  async make(text: string): Promise<void> {
    for (let attempt = 0; attempt < 20; attempt++) {
      try {
        await this.node(await this.leader()).propose(bytes(text));
        return;
      } catch (error) {
        if (!(error instanceof RaftError)) {
          throw error;
        }
      }
      const leader = await this.leader();
      await this.node(leader).readBarrier();
      if (this.machine(leader).list.includes(text)) {
        return;
      }
    }
    throw new Error(`${text} could not be made`);
  }

  /** As `make`: until `holds`. */
  async change(change: ConfChange, holds: (conf: ConfState) => boolean): Promise<void> {
    for (let attempt = 0; attempt < 20; attempt++) {
      const leader = this.node(await this.leader());
      if (holds(leader.status().confState)) {
        return;
      }
      try {
        await leader.changeMembers(change);
      } catch (error) {
        if (!(error instanceof RaftError) || error.code === "refused") {
          throw error;
        }
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
    throw new Error("the change could not be made");
  }

  async caughtUp(list: readonly string[], ...ids: NodeId[]): Promise<void> {
    await until(`${ids.join(", ")} have ${list.length} entries`, () =>
      ids.every((id) => JSON.stringify(this.machine(id).list) === JSON.stringify(list)),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.nodes.values()].map((node) => node.close()));
    await rm(this.#root, { recursive: true });
  }

  #passes(from: NodeId, to: NodeId): RaftNode | undefined {
    return this.cut.has(from) || this.cut.has(to) ? undefined : this.nodes.get(to);
  }

  #transport(from: NodeId): Transport {
    return {
      send: (to: NodeId, messages: readonly Message[]) => {
        const wire = messages.map((message) => Buffer.concat(encodeMessage(message)));
        setImmediate(() => {
          const node = this.#passes(from, to);
          if (node === undefined) {
            this.nodes.get(from)?.reportUnreachable(to);
          } else {
            node.receive(wire.map((part) => decodeMessage(new Uint8Array(part))));
          }
        });
      },
      sendSnapshot: async (message: MessageOf<"MsgSnap">, chunks: AsyncIterable<Uint8Array>) => {
        const node = this.#passes(from, message.to);
        if (node === undefined) {
          throw new Error(`node ${message.to} is out of reach`);
        }
        await node.receiveSnapshot(message, chunks);
        this.snapshotsSent++;
      },
    };
  }
}
