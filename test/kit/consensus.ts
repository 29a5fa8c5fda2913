// Managers' consensus in one process, on real sockets and directories: each with a list as its store's machine.

import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { Lifetime, seededRng, silentLogger, systemClock } from "../../lib/mod.js";
import {
  type Identity,
  initCluster,
  joinCluster,
  RaftConsensus,
  raftService,
  type StoreMachine,
} from "../../manager/consensus/mod.js";
import { Handlers } from "../../manager/rpc/mod.js";

/** A list of texts; each entry adds one and answers how many there are. */
export class ListMachine implements StoreMachine {
  list: string[] = [];

  apply({ data }: { data: Uint8Array }): number {
    return this.list.push(Buffer.from(data).toString());
  }

  snapshot(): Iterable<Uint8Array> {
    return [Buffer.from(JSON.stringify(this.list))];
  }

  async restore(chunks: AsyncIterable<Uint8Array>): Promise<void> {
    const parts: Uint8Array[] = [];
    for await (const chunk of chunks) parts.push(chunk);
    this.list = JSON.parse(Buffer.concat(parts).toString()) as string[];
  }
}

export interface TestManager extends AsyncDisposable {
  name: string;
  dataDir: string;
  address: string;
  identity: Identity;
  consensus: RaftConsensus;
  machine: ListMachine;
  server: Server;
  /** Set once it was told. */
  removed: string | undefined;
  failed: Error | undefined;
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const at = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (at === null || typeof at === "string") throw new Error("no port");
  return at.port;
}

export async function eventually(what: string, check: () => boolean | Promise<boolean>): Promise<void> {
  const untilMs = Date.now() + 15_000;
  while (Date.now() < untilMs) {
    if (await check()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`it did not happen: ${what}`);
}

let seed = 1;

export class TestCluster implements AsyncDisposable {
  readonly managers: TestManager[] = [];
  readonly #life = new Lifetime();
  readonly #snapshotEntries: number | undefined;

  constructor(options: { snapshotEntries?: number } = {}) {
    this.#snapshotEntries = options.snapshotEntries;
  }

  async directory(): Promise<string> {
    const dir = await mkdtemp(join(tmpdir(), "flotilla-consensus-"));
    this.#life.defer(() => rm(dir, { recursive: true, force: true }));
    return dir;
  }

  async first(name = "h1"): Promise<TestManager> {
    const dataDir = await this.directory();
    const address = `127.0.0.1:${await freePort()}`;
    await initCluster({
      dataDir,
      name,
      address,
      httpAddress: address,
      cluster: "test",
      store: "raft",
      etcd: [],
      rng: seededRng((seed += 1)),
    });
    return await this.start(dataDir);
  }

  async join(
    name: string,
    options: { address?: string; via?: TestManager; learner?: boolean } = {},
  ): Promise<TestManager> {
    const dataDir = await this.directory();
    const address = options.address ?? `127.0.0.1:${await freePort()}`;
    const managers =
      options.via === undefined ? this.managers.map((manager) => manager.address) : [options.via.address];
    await joinCluster(
      {
        dataDir,
        name,
        address,
        httpAddress: address,
        managers,
        learner: options.learner ?? false,
        clock: systemClock,
        rng: seededRng((seed += 1)),
        log: silentLogger,
      },
      this.#life.signal,
    );
    return await this.start(dataDir);
  }

  async start(dataDir: string): Promise<TestManager> {
    const { readIdentity } = await import("../../manager/consensus/mod.js");
    const identity = await readIdentity(dataDir);
    if (identity === undefined) throw new Error("no identity");
    const machine = new ListMachine();
    const server = new Server();
    const manager = {
      name: identity.name,
      dataDir,
      address: identity.address,
      identity,
      machine,
      server,
    } as TestManager;
    manager.consensus = await RaftConsensus.open({
      identity,
      dataDir,
      machine,
      clock: systemClock,
      rng: seededRng((seed += 1)),
      log: silentLogger,
      onFatal: (error) => {
        manager.failed = error;
      },
      onRemoved: (message) => {
        manager.removed = message;
      },
      tickMs: 20,
      ...(this.#snapshotEntries === undefined ? {} : { snapshotEntries: this.#snapshotEntries }),
    });
    server.addService(raftService, manager.consensus.handlers(new Handlers(silentLogger, () => undefined)));
    await new Promise<void>((resolve, reject) =>
      server.bindAsync(identity.address, ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      ),
    );
    let stopped = false;
    manager[Symbol.asyncDispose] = async () => {
      if (stopped) return;
      stopped = true;
      this.managers.splice(this.managers.indexOf(manager), 1);
      server.forceShutdown();
      await manager.consensus[Symbol.asyncDispose]();
    };
    this.managers.push(manager);
    return manager;
  }

  /** Three managers, all with a vote. */
  async three(): Promise<[TestManager, TestManager, TestManager]> {
    const first = await this.first();
    await eventually("the first leads", () => first.consensus.tenure() !== undefined);
    const second = await this.join("h2");
    const third = await this.join("h3");
    await this.voters(3);
    return [first, second, third];
  }

  async voters(count: number): Promise<void> {
    await eventually(`${count} voters`, () =>
      this.managers.every(({ consensus }) => consensus.status().managers.filter(({ voter }) => voter).length === count),
    );
  }

  /** The one that may steer; waits for it. */
  async leader(): Promise<TestManager> {
    const leads = () => this.managers.find(({ consensus }) => consensus.tenure() !== undefined);
    await eventually("somebody leads", () => leads() !== undefined);
    return leads()!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const manager of [...this.managers]) await manager[Symbol.asyncDispose]();
    await this.#life[Symbol.asyncDispose]();
  }
}
