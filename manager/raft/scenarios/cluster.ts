// The nodes of a scenario and the network between them: a queue of messages that are delivered only when told.

import type { Logger, Message, MessageType, NodeId } from "../core/mod.js";
import { ScenarioError } from "./format.js";
import { type Base, Member, type MemberSettings, type State, type Surroundings } from "./member.js";
import { messageText } from "./text.js";
import type { Transcript } from "./transcript.js";
import { Watch } from "./watch.js";

/** Which messages a command means; what is left out means all. */
export interface MessageFilter {
  to?: readonly NodeId[];
  from?: readonly NodeId[];
  types?: readonly string[];
}

/** Rounds without coming to rest: messages that breed messages. */
const roundsMax = 1_000;

export class Cluster {
  readonly members = new Map<NodeId, Member>();
  readonly watch = new Watch(this.members);
  readonly snapshots = new Map<number, { term: number; state: State }>();
  /** Sent and not yet delivered, oldest first. */
  queue: Message[] = [];
  /** Taken out of the queue by `hold`, until `release`. */
  held: Message[] = [];
  /** By type, since the last `count-messages`. */
  readonly counts = new Map<MessageType, number>();
  /** Set by `random`: elections and `shake` draw from it. Without it every chance falls as `extras` says. */
  seeded: ((n: number) => number) | undefined;
  /** Ticks that a node waits beyond the election timeout, without `random`. */
  readonly extras = new Map<NodeId, number>();
  readonly #cut = new Set<string>();
  readonly #out: Transcript;
  readonly #log: (id: NodeId) => Logger;
  /** Sent over a link that is cut; said with the step that sent them. */
  readonly #lost: string[] = [];
  base: Base | undefined;

  constructor(out: Transcript, log: (id: NodeId) => Logger) {
    this.#out = out;
    this.#log = log;
  }

  add(base: Base, settings: MemberSettings): Member {
    const id = this.members.size + 1;
    if (this.base === undefined) {
      this.base = base;
      this.snapshots.set(base.index, { term: base.term, state: [] });
    }
    const member = new Member(id, base, settings, this.#surroundings());
    this.members.set(id, member);
    member.start();
    return member;
  }

  /** The same node with an empty disk: as after its disk was replaced. */
  wipe(id: NodeId, base: Base): void {
    const old = this.member(id);
    if (old.raw !== undefined) throw new ScenarioError(`node ${id} runs: only a node that is down can lose its disk`);
    this.members.set(id, new Member(id, base, old.settings, this.#surroundings()));
    this.watch.wiped(id);
  }

  member(id: NodeId): Member {
    const member = this.members.get(id);
    if (member === undefined) throw new ScenarioError(`there is no node ${id}`);
    return member;
  }

  /** After every step of whatever kind. */
  check(): void {
    this.watch.check();
  }

  cut(from: NodeId, to: NodeId): void {
    this.#cut.add(`${from}->${to}`);
    this.queue = this.queue.filter((m) => this.#passes(m));
  }

  heal(): void {
    this.#cut.clear();
  }

  /** The first step of a Ready. */
  take(id: NodeId, sends = true): void {
    this.#lines(this.member(id).take(), sends);
    this.check();
  }

  /** The second: `torn` is a write that a crash cuts short. */
  persist(id: NodeId, torn = false): void {
    this.#lines(this.member(id).persist(torn), true);
    this.check();
  }

  /** The third. */
  finish(id: NodeId, sends = true): void {
    this.#lines(this.member(id).finish(), sends);
    this.check();
  }

  /** A Ready from where it stands to its end. `sends` says whether sent messages are printed. */
  process(id: NodeId, sends = true): void {
    const member = this.member(id);
    if (member.taken === undefined) this.take(id, sends);
    if (member.taken === undefined) return;
    if (!member.taken.persisted) this.persist(id);
    this.finish(id, sends);
  }

  /** Messages of the queue that the filter means; they are taken out of it. */
  pick(filter: MessageFilter): Message[] {
    const picked = this.queue.filter((m) => means(filter, m));
    this.queue = this.queue.filter((m) => !means(filter, m));
    return picked;
  }

  deliver(messages: readonly Message[]): void {
    for (const message of messages) {
      const raw = this.members.get(message.to)?.raw;
      if (raw === undefined) {
        this.#out.say(`${messageText(message)} (lost: ${message.to} is down)`);
        continue;
      }
      this.#out.say(messageText(message));
      const outcome = raw.step(message);
      if (outcome !== undefined) this.#out.say(`refused: ${outcome}`);
      this.check();
    }
  }

  /** Readies and deliveries among `ids` until nothing happens any more. Sent messages show where they are received. */
  stabilize(ids: readonly NodeId[]): void {
    for (let round = 0; round < roundsMax; round++) {
      let busy = false;
      for (const id of ids) {
        const member = this.member(id);
        if (member.raw === undefined || (member.taken === undefined && !member.raw.hasReady())) continue;
        busy = true;
        this.#out.say(`> ${id} processes`);
        this.#out.indented(() => {
          this.process(id, false);
        });
      }
      for (const id of ids) {
        const messages = this.pick({ to: [id] });
        if (messages.length === 0) continue;
        busy = true;
        this.#out.say(`> ${id} receives`);
        this.#out.indented(() => {
          this.deliver(messages);
        });
      }
      if (!busy) return;
    }
    throw new ScenarioError(`the nodes ${ids.join(" ")} did not come to rest within ${roundsMax} rounds`);
  }

  /** Time passes and everything is delivered, until one leader has everything committed everywhere. */
  settle(ids: readonly NodeId[], roundsMax: number): number {
    for (let round = 1; round <= roundsMax; round++) {
      this.reportLostSnapshots();
      for (const id of ids) this.member(id).raw?.tick();
      this.check();
      this.stabilize(ids);
      if (this.#settled(ids)) return round;
    }
    throw new ScenarioError(`the nodes ${ids.join(" ")} did not settle within ${roundsMax} rounds`);
  }

  /** What a transport does whose snapshot stream broke: the sender is told. */
  reportLostSnapshots(): void {
    for (const { id, raw } of this.members.values()) {
      for (const [to, progress] of raw?.status().progress ?? []) {
        if (progress.state !== "snapshot") continue;
        const under = (m: Message): boolean => m.type === "MsgSnap" && m.from === id && m.to === to;
        if (![...this.queue, ...this.held].some(under) && raw?.hasReady() === false) raw.reportSnapshot(to, false);
      }
    }
  }

  #settled(ids: readonly NodeId[]): boolean {
    const running = ids.flatMap((id) => this.member(id).raw?.status() ?? []);
    const leader = running.filter(({ role }) => role === "leader").sort((a, b) => b.term - a.term)[0];
    if (leader === undefined || (leader.confState.autoLeave && leader.confState.votersOutgoing.length > 0))
      return false;
    const { voters, votersOutgoing, learners } = leader.confState;
    return running
      .filter(({ id }) => [voters, votersOutgoing, learners].some((set) => set.includes(id)))
      .every(
        ({ id, lead, commit }) =>
          lead === leader.id && commit === leader.lastIndex && this.member(id).applied === leader.lastIndex,
      );
  }

  #passes(m: Message): boolean {
    return !this.#cut.has(`${m.from}->${m.to}`);
  }

  #surroundings(): Surroundings {
    return {
      watch: this.watch,
      snapshots: this.snapshots,
      random: (id, n) => this.seeded?.(n) ?? Math.min(this.extras.get(id) ?? n - 1, n - 1),
      send: (messages) => {
        for (const message of messages) this.#send(message);
      },
      log: this.#log,
    };
  }

  #send(message: Message): void {
    this.counts.set(message.type, (this.counts.get(message.type) ?? 0) + 1);
    if (this.#passes(message)) this.queue.push(message);
    else this.#lost.push(messageText(message));
  }

  #lines(lines: readonly string[], sends: boolean): void {
    for (const line of lines) if (sends || !line.startsWith("send ")) this.#out.say(line);
    for (const line of this.#lost.splice(0)) this.#out.say(`lost ${line}`);
  }
}

function means(filter: MessageFilter, m: Message): boolean {
  return (
    (filter.to?.includes(m.to) ?? true) &&
    (filter.from?.includes(m.from) ?? true) &&
    (filter.types?.includes(m.type) ?? true)
  );
}
