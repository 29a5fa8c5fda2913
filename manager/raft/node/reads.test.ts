import { expect, test } from "vitest";
import { RaftError } from "./api.js";
import { Reads, readTimeoutMs } from "./reads.js";

function reads(): { reads: Reads; asked: number[]; pass(ms: number): void } {
  let now = 0;
  const asked: number[] = [];
  return {
    asked,
    reads: new Reads({
      monotonic: () => now,
      retryMs: 200,
      firstContext: 1000,
      readIndex: (context) => asked.push(context),
      leader: () => 0,
    }),
    pass(ms) {
      now += ms;
    },
  };
}

/** What became of a promise, seen after all that could run has run. */
function watch(promise: Promise<void>): { state: string } {
  const seen = { state: "waits" };
  promise.then(
    () => (seen.state = "read"),
    (error: unknown) => (seen.state = error instanceof RaftError ? error.code : String(error)),
  );
  return seen;
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("who waits when a round begins shares it; who comes during it takes part in the next", async () => {
  const { reads: all, asked } = reads();
  const first = watch(all.join());
  const second = watch(all.join());
  all.begin();
  expect(asked).toEqual([1000]);
  const third = watch(all.join());
  expect(all.due).toBe(false);
  all.readable([{ context: 1000, index: 7 }]);
  await settled();
  expect([first.state, second.state, third.state]).toEqual(["read", "read", "waits"]);
  expect(all.due).toBe(true);
  all.begin();
  expect(asked).toEqual([1000, 1001]);
  // An answer to the round before, come twice, says nothing of this one.
  all.readable([{ context: 1000, index: 7 }]);
  await settled();
  expect(third.state).toBe("waits");
  all.readable([{ context: 1001, index: 7 }]);
  await settled();
  expect(third.state).toBe("read");
});

test("a round is tried again with fresh contexts, each of which may answer", async () => {
  const { reads: all, asked, pass } = reads();
  const reader = watch(all.join());
  all.begin();
  pass(199);
  all.tick();
  expect(asked).toEqual([1000]);
  pass(1);
  all.tick();
  all.ask();
  expect(asked).toEqual([1000, 1001, 1002]);
  all.readable([{ context: 1001, index: 7 }]);
  await settled();
  expect(reader.state).toBe("read");
});

test("a read that nobody confirms ends, in a round or before one", async () => {
  const { reads: all, pass } = reads();
  const first = watch(all.join());
  all.begin();
  pass(1000);
  const second = watch(all.join());
  pass(readTimeoutMs - 1000);
  all.tick();
  await settled();
  expect([first.state, second.state]).toEqual(["no-quorum", "waits"]);
  // The round ended with its last reader: the next can begin.
  expect(all.due).toBe(true);
  pass(1000);
  all.tick();
  await settled();
  expect(second.state).toBe("no-quorum");
  expect(all.due).toBe(false);
});

test("a caller that goes leaves the others their round", async () => {
  const { reads: all } = reads();
  const abort = new AbortController();
  const gone = watch(all.join(abort.signal));
  const stays = watch(all.join());
  all.begin();
  abort.abort(new Error("gone"));
  all.readable([{ context: 1000, index: 1 }]);
  await settled();
  expect([gone.state, stays.state]).toEqual(["Error: gone", "read"]);
});

test("all end when the node does", async () => {
  const { reads: all } = reads();
  const first = watch(all.join());
  all.begin();
  const second = watch(all.join());
  all.close(() => new RaftError("closed", "the node is closed"));
  await settled();
  expect([first.state, second.state]).toEqual(["closed", "closed"]);
});
