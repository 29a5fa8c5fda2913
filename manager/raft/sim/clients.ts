// Clients: each has one request under way, asks any node, and asks others again under the same request id when no
// answer comes. What they saw is the history that must be linearizable.

import type { NodeId } from "../core/mod.js";
import type { Operation } from "./linearizability.js";
import { type Command, encodeRequest } from "./machine.js";
import type { SimNode } from "./node.js";
import { Rng } from "./rng.js";
import { eventKind, type World } from "./world.js";

/** Operations on one key before clients turn to a new one: the search of a history stays small. */
const keyOperationsMax = 50;
const attemptsMax = 12;

interface Key {
  name: string;
  list: boolean;
  operations: Operation[];
}

export class Clients {
  readonly #world: World;
  readonly #nodes: ReadonlyMap<NodeId, SimNode>;
  readonly #rng: Rng;
  readonly #keys: Key[] = [];
  readonly #active: Key[] = [];
  #nextClient = 1;
  #nextValue = 1;
  /** Calls and returns in their order. */
  #moment = 0;
  #stopped = false;
  #busy = 0;

  constructor(world: World, nodes: ReadonlyMap<NodeId, SimNode>) {
    this.#world = world;
    this.#nodes = nodes;
    this.#rng = new Rng(world.plan.seed, 3);
    for (let i = 0; i < world.plan.keys; i += 1) this.#active.push(this.#newKey());
    for (let i = 0; i < world.plan.clients; i += 1) this.#live(this.#nextClient++, 1);
  }

  /** No new requests from now on. */
  stop(): void {
    this.#stopped = true;
  }

  get busy(): number {
    return this.#busy;
  }

  histories(): { key: string; operations: Operation[] }[] {
    return this.#keys.map(({ name, operations }) => ({ key: name, operations }));
  }

  #newKey(): Key {
    const list = this.#rng.chance(0.5);
    const key = { name: `${list ? "list" : "reg"}${this.#keys.length}`, list, operations: [] };
    this.#keys.push(key);
    return key;
  }

  #live(client: number, number: number): void {
    this.#world.time.after(this.#rng.between(1, this.#world.plan.thinkUnitsMax), () => {
      if (!this.#stopped) this.#request(client, number);
    });
  }

  #request(client: number, number: number): void {
    const { plan, coverage } = this.#world;
    const at = this.#rng.below(this.#active.length);
    let key = this.#active[at];
    if (key === undefined || key.operations.length >= keyOperationsMax) {
      key = this.#newKey();
      this.#active[at] = key;
    }
    this.#moment += 1;
    const read = this.#rng.chance(plan.reads);
    const operation: Operation = {
      client,
      kind: read ? "read" : key.list ? "append" : "write",
      value: "",
      call: this.#moment,
      return: Infinity,
    };
    key.operations.push(operation);
    coverage.requests += 1;
    if (read) coverage.reads += 1;
    let data: Uint8Array | undefined;
    if (!read) {
      const value = this.#nextValue;
      this.#nextValue += 1;
      operation.value = `${value}`;
      const command: Command = { kind: key.list ? "append" : "write", key: key.name, value };
      const padding = "x".repeat(plan.paddingMax === 0 ? 0 : this.#rng.below(plan.paddingMax));
      data = encodeRequest({ client, number, command, padding });
    }
    this.#busy += 1;
    this.#attempt({ client, number, key: key.name, operation, data, attempts: 0, over: false });
  }

  #attempt(call: Call): void {
    const { plan, time, coverage, events, healing } = this.#world;
    if (call.over) return;
    if (call.attempts >= attemptsMax) {
      // Nobody knows: the operation stays open, and the client goes on as another.
      call.over = true;
      this.#busy -= 1;
      coverage.requestsOpen += 1;
      this.#live(this.#nextClient++, 1);
      return;
    }
    if (call.attempts > 0) coverage.requestsRetried += 1;
    call.attempts += 1;
    const nodes = [...this.#nodes.values()];
    const node = this.#rng.pick(nodes);
    const lost = !healing && this.#rng.chance(plan.loss);
    const answerLost = !healing && this.#rng.chance(plan.loss);
    const { client, number, operation } = call;
    events.add(
      eventKind.client,
      client,
      number,
      node.id,
      () =>
        `client ${client} asks node ${node.id}: ${operation.kind} ${call.key} ${operation.value} (${number}, attempt ${call.attempts})`,
    );
    const answer = (value: string): void => {
      if (!answerLost) time.after(this.#rng.between(1, plan.delayUnitsMax), () => this.#answered(call, value));
    };
    if (!lost)
      time.after(this.#rng.between(1, plan.delayUnitsMax), () => {
        const { data, key } = call;
        const outcome =
          data === undefined
            ? node.read((machine) => answer(machine.read(key)))
            : node.write(client, number, data, () => answer(operation.value));
        if (outcome !== undefined && outcome !== "gone") coverage.refusals += 1;
      });
    const attempt = call.attempts;
    time.after(this.#rng.between(plan.electionTick * 5, plan.electionTick * 20), () => {
      if (call.attempts === attempt) this.#attempt(call);
    });
  }

  #answered(call: Call, value: string): void {
    if (call.over) return;
    call.over = true;
    this.#busy -= 1;
    this.#moment += 1;
    const { operation, client, number } = call;
    operation.return = this.#moment;
    if (operation.kind === "read") operation.value = value;
    this.#world.events.add(
      eventKind.client,
      client,
      number,
      0,
      () => `client ${client} has its answer to ${number}: ${call.key} ${value}`,
    );
    this.#live(client, number + 1);
  }
}

interface Call {
  client: number;
  number: number;
  key: string;
  operation: Operation;
  /** Undefined for a read. */
  data: Uint8Array | undefined;
  attempts: number;
  over: boolean;
}
