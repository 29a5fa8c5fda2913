import { describe, expect, it } from "vitest";
import { seededRng, silentLogger } from "../lib/mod.js";
import { FakeClock, settle } from "../test/kit/clock.js";
import type { Tenure } from "./consensus/mod.js";
import { Leadership } from "./leadership.js";

/** A consensus whose tenures a test gives and takes. */
class FakeConsensus {
  #tenure: { tenure: Tenure; controller: AbortController } | undefined;
  #listener: () => void = () => undefined;

  tenure(): Tenure | undefined {
    return this.#tenure?.tenure;
  }

  onChange(listener: () => void): () => void {
    this.#listener = listener;
    return () => {
      this.#listener = () => undefined;
    };
  }

  begin(term: number): void {
    const controller = new AbortController();
    this.#tenure = { tenure: { term, epoch: 0, signal: controller.signal }, controller };
    this.#listener();
  }

  end(): void {
    const ended = this.#tenure;
    this.#tenure = undefined;
    ended?.controller.abort();
    this.#listener();
  }
}

function world() {
  const clock = new FakeClock();
  const consensus = new FakeConsensus();
  const events: string[] = [];
  const holds: { start?: Promise<void>; end?: Promise<void>; fail?: Error | undefined } = {};
  const leadership = new Leadership({
    consensus,
    clock,
    rng: seededRng(1),
    log: silentLogger,
    async start({ term }: Tenure) {
      events.push(`starting ${term}`);
      await holds.start;
      if (holds.fail !== undefined) throw holds.fail;
      events.push(`started ${term}`);
      return {
        term,
        async [Symbol.asyncDispose]() {
          events.push(`ending ${term}`);
          await holds.end;
          events.push(`ended ${term}`);
        },
      };
    },
  });
  const pass = async () => {
    for (let i = 0; i < 5; i += 1) {
      await clock.advance(0);
      await settle();
    }
  };
  return { clock, consensus, events, holds, leadership, pass };
}

function gate(): { promise: Promise<void>; open: () => void } {
  let open: () => void = () => undefined;
  const promise = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { promise, open };
}

describe("controllers", () => {
  it("run within a tenure only, and those of the next are made when those of the last are gone", async () => {
    const { consensus, events, holds, leadership, pass } = world();
    await pass();
    expect(events).toEqual([]);
    consensus.begin(1);
    await pass();
    expect([events, leadership.current()?.term]).toEqual([["starting 1", "started 1"], 1]);
    const ending = gate();
    holds.end = ending.promise;
    consensus.end();
    // At once, though they take their time to end.
    expect(leadership.current()).toBeUndefined();
    await pass();
    consensus.begin(2);
    await pass();
    expect(events.slice(2)).toEqual(["ending 1"]);
    expect(leadership.current()).toBeUndefined();
    ending.open();
    await pass();
    expect(events.slice(2)).toEqual(["ending 1", "ended 1", "starting 2", "started 2"]);
    await leadership[Symbol.asyncDispose]();
    expect(events.slice(6)).toEqual(["ending 2", "ended 2"]);
  });

  it("whose tenure ends while they start are ended before anything else", async () => {
    const { consensus, events, holds, leadership, pass } = world();
    const starting = gate();
    holds.start = starting.promise;
    consensus.begin(1);
    await pass();
    consensus.end();
    consensus.begin(2);
    await pass();
    expect(events).toEqual(["starting 1"]);
    starting.open();
    await pass();
    expect(events).toEqual(["starting 1", "started 1", "ending 1", "ended 1", "starting 2", "started 2"]);
    expect(leadership.current()?.term).toBe(2);
    await leadership[Symbol.asyncDispose]();
  });

  it("that cannot start are tried again while the tenure lasts", async () => {
    const { clock, consensus, events, holds, leadership, pass } = world();
    holds.fail = new Error("no quorum");
    consensus.begin(1);
    await pass();
    expect(events).toEqual(["starting 1"]);
    holds.fail = undefined;
    await clock.advance(2_000);
    await pass();
    expect(events).toEqual(["starting 1", "starting 1", "started 1"]);
    await leadership[Symbol.asyncDispose]();
  });
});
