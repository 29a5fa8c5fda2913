// One run of one seed: safety while everything fails, then everything healed, and progress.

import { type ConfChange, type ConfState, type Entry, type NodeId, RaftInvariantError } from "../core/mod.js";
import { Broken, Checker, confText } from "./checker.js";
import { Clients } from "./clients.js";
import { type Coverage, noCoverage } from "./coverage.js";
import { checkHistory, type Operation } from "./linearizability.js";
import { encodeRequest } from "./machine.js";
import { type Delivery, Network } from "./network.js";
import { SimNode } from "./node.js";
import { type Fault, type Plan, planOf, type Profile } from "./plan.js";
import { Rng } from "./rng.js";
import { Timeline, unitsPerTick } from "./timeline.js";
import { eventKind, Events, type World } from "./world.js";

export interface Result {
  seed: number;
  profile: Profile;
  /** What broke; undefined when all held. */
  broken: string | undefined;
  coverage: Coverage;
  events: number;
  hash: number;
}

export interface Options {
  profile?: Profile;
  trace?: (line: string) => void;
}

export function simulate(seed: number, { profile, trace }: Options = {}): Result {
  const simulation = new Simulation(planOf(seed, profile), trace);
  let broken: string | undefined;
  try {
    simulation.run();
  } catch (error) {
    // Whatever else is thrown is a fault of the code under test as well, or of the simulator.
    if (error instanceof Broken || error instanceof RaftInvariantError)
      broken = `${error.name === "Broken" ? "" : "invariant: "}${error.message}`;
    else broken = `exception: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
  }
  const { coverage, events } = simulation.world;
  return { seed, profile: simulation.world.plan.profile, broken, coverage, events: events.count, hash: events.hash };
}

/** A number of client that no client has: of who asks whether all is well. */
const proberId = 1_000_000;

class Simulation {
  readonly world: World;
  readonly #nodes = new Map<NodeId, SimNode>();
  readonly #network: Network;
  readonly #clients: Clients;
  readonly #rng: Rng;
  readonly #first: ConfState;
  #nextId: NodeId;
  readonly #removed = new Set<NodeId>();
  /** Removed, and asked back at some time; they are left running from then on. */
  readonly #askedBack = new Set<NodeId>();
  /** Removed, and switched off for good, or about to be. */
  readonly #off = new Set<NodeId>();
  /** By index of the newest change that came into force anywhere. */
  #newest: { index: number; conf: ConfState };

  constructor(plan: Plan, trace: ((line: string) => void) | undefined) {
    const time = new Timeline();
    const coverage = noCoverage();
    this.world = {
      plan,
      time,
      rng: new Rng(plan.seed, 2),
      coverage,
      checker: new Checker(coverage),
      events: new Events(time, trace),
      healing: false,
    };
    this.#rng = new Rng(plan.seed, 4);
    const ids = Array.from({ length: plan.voters + plan.learners }, (_, i) => i + 1);
    this.#first = {
      voters: ids.slice(0, plan.voters),
      votersOutgoing: [],
      learners: ids.slice(plan.voters),
      learnersNext: [],
      autoLeave: false,
    };
    this.#newest = { index: 0, conf: this.#first };
    this.#nextId = ids.length + 1;
    this.#network = new Network(
      this.world,
      (to, delivery) => this.#deliver(to, delivery),
      (m) => {
        if (m.type === "MsgSnap") {
          coverage.snapshotsFailed += 1;
          this.#nodes.get(m.from)?.reportSnapshot(m.to, false);
        }
      },
    );
    for (const id of ids) this.#node(id);
    this.#clients = new Clients(this.world, this.#nodes);
  }

  #node(id: NodeId): SimNode {
    const known = this.#nodes.get(id);
    if (known !== undefined) return known;
    const node = new SimNode(this.world, this.#network, id, this.#first, {
      configured: (where, entry, conf, before) => {
        this.#configured(where, entry, conf);
        this.#afterChange(where, entry, conf, before);
      },
    });
    this.#nodes.set(id, node);
    node.start();
    return node;
  }

  #deliver(to: NodeId, delivery: Delivery): void {
    const node = this.#nodes.get(to);
    const { message } = delivery;
    const sender = this.#nodes.get(message.from);
    if (message.type === "MsgSnap") {
      const arrives = node !== undefined && node.status() !== undefined;
      if (!arrives) this.world.coverage.snapshotsFailed += 1;
      this.world.time.after(3, () => sender?.reportSnapshot(to, arrives));
    }
    node?.receive(delivery);
  }

  #configured(where: SimNode, entry: Entry, conf: ConfState): void {
    if (entry.index <= this.#newest.index) return;
    const { coverage } = this.world;
    const old = this.#newest.conf;
    this.#newest = { index: entry.index, conf };
    const before = new Set([...old.voters, ...old.votersOutgoing, ...old.learners]);
    if (old.votersOutgoing.length === 0 && conf.votersOutgoing.length > 0) coverage.jointEntered += 1;
    if (old.votersOutgoing.length > 0 && conf.votersOutgoing.length === 0) coverage.jointLeft += 1;
    for (const id of conf.voters) {
      if (!before.has(id)) coverage.votersAdded += 1;
      else if (old.learners.includes(id)) coverage.learnersPromoted += 1;
    }
    for (const id of conf.learners) if (!before.has(id)) coverage.learnersAdded += 1;
    for (const id of before)
      if (![...conf.voters, ...conf.votersOutgoing, ...conf.learners].includes(id)) {
        coverage.membersRemoved += 1;
        this.#removed.add(id);
        // The leader is the first to apply a change, and steps down in the same moment if it is its own removal.
        if (where.id === id || this.#nodes.get(id)?.status()?.role === "leader") coverage.leadersRemoved += 1;
      }
    for (const id of [...conf.voters, ...conf.learners]) {
      if (this.#removed.delete(id)) coverage.returnedAfterRemoval += 1;
      this.#node(id);
    }
  }

  /**
   * Once a leader that stays goes by a removal, an administrator is told that it is done, and may switch off who was
   * removed: the others must do without, whatever happens to them next. Where the leader itself leaves, the others may
   * need its vote still.
   */
  #afterChange(where: SimNode, entry: Entry, conf: ConfState, before: ConfState): void {
    const { plan, time, healing } = this.world;
    if (healing) return;
    if (this.#rng.chance(plan.cutAfterChange)) {
      time.after(this.#rng.between(1, 10), () => {
        if (this.world.healing || !where.running) return;
        this.world.coverage.powerCutsAfterChange += 1;
        this.#crash(where, true);
      });
    }
    if (entry.index !== this.#newest.index || where.status()?.role !== "leader" || !isMember(conf, where.id)) return;
    // With a disk lost as well, what is left may be no quorum.
    if ([...this.#nodes.values()].some(({ damaged }) => damaged)) return;
    for (const [id, node] of this.#nodes) {
      if (!isMember(before, id) || isMember(conf, id) || this.#askedBack.has(id)) continue;
      if (!this.#rng.chance(plan.switchOff)) continue;
      this.#off.add(id);
      time.after(this.#rng.between(1, 20), () => node.switchOff());
    }
  }

  run(): void {
    const { plan, time } = this.world;
    this.#repeat(plan.faultUnits, () => this.#fault());
    this.#repeat(plan.changeUnits, () => this.#change());
    this.#repeat(plan.transferUnits, () => this.#transfer());
    const end = plan.faultTicks * unitsPerTick;
    while (time.step(end));
    time.now = end;
    this.#heal();
    this.#checkHistories();
  }

  #repeat(meanUnits: number, act: () => void): void {
    if (meanUnits === 0) return;
    this.world.time.after(this.#rng.between(1, 2 * meanUnits), () => {
      if (this.world.healing) return;
      act();
      this.#repeat(meanUnits, act);
    });
  }

  #leader(): SimNode | undefined {
    let leader: SimNode | undefined;
    let term = 0;
    for (const node of this.#nodes.values()) {
      const status = node.status();
      if (status?.role === "leader" && status.term > term && node.running) {
        leader = node;
        term = status.term;
      }
    }
    return leader;
  }

  // ---- faults

  #fault(): void {
    const { plan, coverage, events } = this.world;
    const kinds = Object.entries(plan.faults) as [Fault, number][];
    let draw = (this.#rng.below(1_000) / 1_000) * kinds.reduce((sum, [, weight]) => sum + weight, 0);
    let kind: Fault = "mend";
    for (const [name, weight] of kinds) {
      if (draw < weight) {
        kind = name;
        break;
      }
      draw -= weight;
    }
    const ids = [...this.#nodes.keys()];
    const victim = this.#rng.pick(ids);
    events.add(eventKind.fault, victim, ids.length, 0, () => `fault: ${kind} (node ${victim})`);
    const node = this.#node(victim);
    switch (kind) {
      case "partition": {
        coverage.partitions += 1;
        this.#network.mend();
        const side = new Set(ids.filter(() => this.#rng.chance(0.5)));
        for (const a of ids) for (const b of ids) if (side.has(a) !== side.has(b)) this.#network.cut(a, b);
        return;
      }
      case "isolate":
        this.#isolate(victim);
        return;
      case "cut-leader": {
        const leader = this.#leader();
        if (leader !== undefined) this.#isolate(leader.id);
        return;
      }
      case "one-way":
        coverage.oneWayCuts += 1;
        for (const other of ids)
          if (this.#rng.chance(0.6)) {
            if (this.#rng.chance(0.5)) this.#network.cut(victim, other);
            else this.#network.cut(other, victim);
          }
        return;
      case "mend":
        this.#network.mend();
        return;
      case "power-cut":
        this.#crash(node, true);
        return;
      case "power-cut-all":
        for (const one of [...this.#nodes.values()]) this.#crash(one, true);
        return;
      case "kill":
        this.#crash(node, false);
        return;
      case "pause":
        if (!node.running) return;
        coverage.pauses += 1;
        node.pause();
        this.world.time.after(this.#rng.between(20, plan.electionTick * 60), () => {
          if (node.state === "paused") node.resume();
        });
        return;
      case "slow-disk":
        coverage.slowDisks += 1;
        node.slowDisk = this.#rng.between(3, 20);
        this.world.time.after(this.#rng.between(100, 500), () => {
          node.slowDisk = 1;
        });
        return;
      case "bit-flip":
        this.#flip(node);
        return;
      case "campaign":
        node.campaign();
        return;
    }
  }

  #isolate(id: NodeId): void {
    this.world.coverage.partitions += 1;
    for (const other of this.#nodes.keys())
      if (other !== id) {
        this.#network.cut(id, other);
        this.#network.cut(other, id);
      }
  }

  #crash(node: SimNode, lossy: boolean): void {
    if (node.state === "down" || node.state === "refused" || node.state === "gone") return;
    node.end(lossy);
    this.world.time.after(this.#rng.between(5, 400), () => {
      if (node.state === "down") node.start();
    });
  }

  /** Never on so many disks that the cluster could not be whole again. */
  #flip(node: SimNode): void {
    if (node.state === "refused" || this.#off.size > 0 || !this.#survivesWithout(node.id)) return;
    this.#crash(node, true);
    const where = node.flipBit();
    if (where === undefined) return;
    this.world.coverage.bitFlips += 1;
    this.world.events.add(eventKind.fault, node.id, 1, 0, () => `a bit of ${where} on node ${node.id} turns`);
  }

  #lost(id: NodeId): boolean {
    const node = this.#nodes.get(id);
    return node === undefined || node.damaged;
  }

  #survivesWithout(id: NodeId): boolean {
    const { voters, votersOutgoing } = this.#newest.conf;
    // With one lost at a time, and four members around it, changes that are under way leave a quorum.
    if (votersOutgoing.length > 0 || voters.some((voter) => this.#lost(voter))) return false;
    const others = voters.filter((voter) => voter !== id);
    return others.length >= 3 || (others.length === 2 && this.world.plan.changeUnits === 0);
  }

  /** Whether a quorum of what is in force can still run. */
  #survivable(): boolean {
    const { voters, votersOutgoing } = this.#newest.conf;
    return [voters, votersOutgoing].every(
      (group) =>
        group.length === 0 || group.filter((id) => this.#nodes.get(id)?.state !== "refused").length > group.length / 2,
    );
  }

  // ---- membership

  #change(): void {
    const { conf } = this.#newest;
    const { plan, coverage } = this.world;
    const refused = [...conf.voters, ...conf.learners].filter((id) => this.#nodes.get(id)?.state === "refused");
    const damaged = conf.voters.some((id) => this.#lost(id));
    const change: ConfChange = { transition: "auto", changes: [], context: new Uint8Array(0) };
    const gone = refused[0];
    if (conf.votersOutgoing.length > 0 && this.#rng.chance(0.7)) {
      // Leaves a joint configuration, which may be leaving by itself.
    } else if (gone !== undefined) change.changes = [{ type: "remove", id: gone }];
    else if (!damaged || this.#rng.chance(0.2)) {
      change.changes = this.#someChanges(conf, damaged);
      change.transition = this.#rng.pick(["auto", "auto", "joint-implicit", "joint-explicit"] as const);
      if (change.changes.length === 0) return;
    } else return;
    const leader = this.#leader();
    const node = this.#rng.chance(0.9) && leader !== undefined ? leader : this.#rng.pick([...this.#nodes.values()]);
    const outcome = node.change(change);
    if (outcome !== undefined) {
      if (outcome !== "gone") coverage.changesRefused += 1;
      return;
    }
    this.world.events.add(
      eventKind.change,
      node.id,
      plan.changeUnits,
      change.changes.length,
      () =>
        `node ${node.id} is asked for ${change.transition} ${change.changes.map(({ type, id }) => `${type} ${id}`).join(", ") || "leave"}`,
    );
    // A new member's process may run before the change is in force.
    for (const { type, id } of change.changes) if (type !== "remove") this.#node(id);
  }

  #someChanges(conf: ConfState, damaged: boolean): ConfChange["changes"] {
    const { plan } = this.world;
    const changes: { type: "add-voter" | "add-learner" | "remove"; id: NodeId }[] = [];
    const voters = new Set(conf.voters);
    for (let left = this.#rng.chance(0.3) ? this.#rng.between(2, 3) : 1; left > 0; left -= 1) {
      const draw = this.#rng.below(10);
      const learner = conf.learners[0];
      if (draw < 3 && learner !== undefined) {
        changes.push({ type: "add-voter", id: learner });
        voters.add(learner);
      } else if (draw < 6 && voters.size < 7) {
        const id = this.#newMember(plan);
        if (id === undefined) continue;
        const voter = this.#rng.chance(0.4);
        changes.push({ type: voter ? "add-voter" : "add-learner", id });
        if (voter) voters.add(id);
      } else if (voters.size > 1 && !damaged) {
        const id = this.#rng.pick([...voters, ...conf.learners]);
        const demote = this.#rng.chance(0.2) && voters.has(id);
        changes.push({ type: demote ? "add-learner" : "remove", id });
        voters.delete(id);
      }
    }
    const ids = new Set(changes.map(({ id }) => id));
    return ids.size === changes.length ? changes : changes.slice(0, 1);
  }

  /** A new one, or one that was removed and comes back with its old disk. */
  #newMember(plan: Plan): NodeId | undefined {
    const back = [...this.#removed].filter((id) => this.#nodes.get(id)?.damaged === false && !this.#off.has(id));
    if (back.length > 0 && this.#rng.chance(0.4)) {
      const id = this.#rng.pick(back);
      this.#askedBack.add(id);
      return id;
    }
    if (this.#nextId > plan.voters + plan.learners + plan.spares) return undefined;
    const id = this.#nextId;
    this.#nextId += 1;
    return id;
  }

  #transfer(): void {
    const leader = this.#leader();
    if (leader === undefined) return;
    const to = this.#rng.pick([...this.#nodes.keys()]);
    const node = this.#rng.chance(0.8) ? leader : this.#rng.pick([...this.#nodes.values()]);
    if (node.transfer(to) !== undefined || to === leader.id) return;
    const { coverage, time, plan } = this.world;
    coverage.transfersAsked += 1;
    time.after(plan.electionTick * unitsPerTick, () => {
      if (this.#leader()?.id === to) coverage.transfersDone += 1;
    });
  }

  // ---- the second phase

  #heal(): void {
    const { plan, time, coverage, events } = this.world;
    this.world.healing = true;
    this.#clients.stop();
    this.#network.mend();
    events.add(eventKind.fault, 0, 0, 0, () => "all is mended");
    for (const node of this.#nodes.values()) {
      node.slowDisk = 1;
      if (node.state === "paused") node.resume();
      if (node.state === "down") node.start();
    }
    const end = time.now + plan.healTicks * unitsPerTick;
    let well = false;
    let round = 0;
    const probe = (): void => {
      if (well) return;
      round += 1;
      this.#probe(round);
      time.after(plan.electionTick * unitsPerTick, probe);
    };
    probe();
    const look = (): void => {
      well = this.#probed && this.#allEqual();
      if (!well) time.after(unitsPerTick, look);
    };
    time.after(unitsPerTick, look);
    while (time.step(end)) if (well) break;
    if (well) {
      coverage.healed += 1;
      return;
    }
    // More disks gone than a cluster survives: the simulator sees to it that this is rare, and progress is not owed.
    if (!this.#survivable()) return;
    throw new Broken(
      `progress: ${plan.healTicks} ticks after all was mended ${this.#probed ? "members differ" : "no write was done"}: ${this.#overview()}`,
    );
  }

  #probed = false;

  /** A write, by whoever takes it; and whatever an administrator would do about joint configurations and dead disks. */
  #probe(round: number): void {
    const command = { kind: "write" as const, key: "probe", value: 1 };
    const data = encodeRequest({ client: proberId, number: 1, command, padding: "" });
    const nodes = [...this.#nodes.values()];
    // Always the same request, by another node each time: it takes effect once.
    if (!this.#probed)
      nodes[round % nodes.length]?.write(proberId, 1, data, () => {
        this.#probed = true;
      });
    const { conf } = this.#newest;
    const leader = this.#leader();
    if (leader === undefined) return;
    const refused = [...conf.voters, ...conf.learners].find((id) => this.#nodes.get(id)?.state === "refused");
    const context = new Uint8Array(0);
    if (conf.votersOutgoing.length > 0) leader.change({ transition: "auto", changes: [], context });
    else if (refused !== undefined)
      leader.change({ transition: "auto", changes: [{ type: "remove", id: refused }], context });
  }

  /** Whether all members have applied the same, and all of it. */
  #allEqual(): boolean {
    const { conf } = this.#newest;
    if (conf.votersOutgoing.length > 0) return false;
    const members = [...conf.voters, ...conf.learners].flatMap((id) => this.#nodes.get(id) ?? []);
    const alive = members.filter((node) => node.state !== "refused");
    const [first] = alive;
    if (first === undefined || alive.some((node) => !node.running || node.appliedIndex !== first.appliedIndex))
      return false;
    if (first.appliedIndex < this.world.checker.commitMax) return false;
    const state = first.machine?.snapshot();
    for (const node of alive) {
      const other = node.machine?.snapshot();
      if (state === undefined || other === undefined || Buffer.compare(state, other) !== 0)
        throw new Broken(
          `state machine safety: nodes ${first.id} and ${node.id} have both applied ${first.appliedIndex}, and differ`,
        );
    }
    return true;
  }

  #overview(): string {
    const lines = [...this.#nodes.values()].map((node) => {
      const status = node.status();
      if (status === undefined) return `node ${node.id} ${node.state}`;
      return `node ${node.id} ${node.state} ${status.role} term ${status.term} leader ${status.lead} commit ${status.commit} applied ${node.appliedIndex} last ${status.lastIndex}`;
    });
    return `members ${confText(this.#newest.conf)}; ${lines.join("; ")}`;
  }

  #checkHistories(): void {
    for (const { key, operations } of this.#clients.histories()) {
      const verdict = checkHistory(operations);
      if (verdict.linearizable === "undecided")
        throw new Broken(
          `linearizability: the history of ${key}, ${operations.length} operations, is too hard to search`,
        );
      this.world.coverage.histories += 1;
      if (verdict.linearizable) continue;
      throw new Broken(
        `linearizability: ${key} after ${verdict.done.map(operationText).join(", ") || "nothing"}: none of ${verdict.stuck.map(operationText).join(", ")} can be next`,
      );
    }
  }
}

function isMember({ voters, votersOutgoing, learners, learnersNext }: ConfState, id: NodeId): boolean {
  return [voters, votersOutgoing, learners, learnersNext].some((group) => group.includes(id));
}

function operationText({ client, kind, value, call, return: ret }: Operation): string {
  return `client ${client}'s ${kind} ${value === "" ? "(nothing)" : value} [${call}, ${ret === Infinity ? "open" : ret}]`;
}
