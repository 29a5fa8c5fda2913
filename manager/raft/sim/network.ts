// A network that loses, doubles, delays, reorders and cuts, in one direction or both.

import type { Message, NodeId } from "../core/mod.js";
import { decodeMessage, encodeMessage } from "../wire/mod.js";
import { eventKind, messageText, type World } from "./world.js";

export interface Delivery {
  message: Message;
  /** Of a MsgSnap: the snapshot's contents. */
  contents?: Uint8Array;
}

export class Network {
  readonly #world: World;
  readonly #deliver: (to: NodeId, delivery: Delivery) => void;
  /** The sender hears at last whether it arrived; snapshots only. */
  readonly #lost: (message: Message) => void;
  readonly #cuts = new Set<number>();

  constructor(world: World, deliver: (to: NodeId, delivery: Delivery) => void, lost: (message: Message) => void) {
    this.#world = world;
    this.#deliver = deliver;
    this.#lost = lost;
  }

  cut(from: NodeId, to: NodeId): void {
    this.#cuts.add(from * 1_000 + to);
  }

  mend(): void {
    this.#cuts.clear();
  }

  isCut(from: NodeId, to: NodeId): boolean {
    return this.#cuts.has(from * 1_000 + to);
  }

  send(delivery: Delivery): void {
    const { plan, rng, coverage, events, healing } = this.#world;
    const m = delivery.message;
    coverage.messages += 1;
    events.add(eventKind.send, m.from, m.to, m.term, () => `send ${messageText(m)}`);
    if (this.isCut(m.from, m.to)) {
      coverage.messagesCut += 1;
      this.#lose(m);
      return;
    }
    // A snapshot is long on its way, and fails more often.
    if (!healing && rng.chance(delivery.contents === undefined ? plan.loss : plan.loss + 0.1)) {
      coverage.messagesLost += 1;
      this.#lose(m);
      return;
    }
    this.#carry(delivery);
    if (!healing && delivery.contents === undefined && rng.chance(plan.doubled)) {
      coverage.messagesDoubled += 1;
      this.#carry(delivery);
    }
  }

  #lose(m: Message): void {
    const { events, time } = this.#world;
    events.add(eventKind.drop, m.from, m.to, m.term, () => `lost ${messageText(m)}`);
    time.after(5, () => this.#lost(m));
  }

  #carry({ message, contents }: Delivery): void {
    const { plan, rng, time, coverage, healing } = this.#world;
    let units = rng.between(plan.delayUnitsMin, plan.delayUnitsMax);
    let survivesCuts = false;
    if (!healing && rng.chance(plan.late)) {
      units = rng.between(plan.delayUnitsMax, plan.lateUnitsMax);
      coverage.messagesReordered += 1;
      survivesCuts = rng.chance(0.5);
    }
    let m = message;
    if (rng.chance(plan.encoded)) {
      m = decodeMessage(Buffer.concat(encodeMessage(message)));
      coverage.messagesEncoded += 1;
    }
    const delivery: Delivery = contents === undefined ? { message: m } : { message: m, contents };
    time.after(units, () => {
      // A cut takes what is on its way with it, but for what was past it already.
      if (!survivesCuts && this.isCut(m.from, m.to)) {
        coverage.messagesCut += 1;
        this.#lose(m);
      } else this.#deliver(m.to, delivery);
    });
  }
}
