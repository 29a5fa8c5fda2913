import { describe, expect, it } from "vitest";
import { FakeClock, settle } from "../test/kit/clock.js";
import {
  backoffMs,
  BoundedStream,
  cidrContains,
  ClusterError,
  formatBytes,
  formatDurationMs,
  formatIpv4,
  LatestStream,
  Lifetime,
  parseBytes,
  parseCidr,
  parseDurationMs,
  parseIpv4,
  parseNanoCpus,
  ReconcileLoop,
  seededRng,
  silentLogger,
  sleep,
  systemRng,
  toClusterError,
  withDeadline,
} from "./mod.js";

describe("clock", () => {
  it("ends a sleep when its signal aborts, and leaves no timer", async () => {
    const clock = new FakeClock();
    const controller = new AbortController();
    const slept = sleep(clock, 1000, controller.signal);
    controller.abort(new Error("stop"));
    await expect(slept).rejects.toThrow("stop");
    expect(clock.nextDueMs).toBeUndefined();
  });

  it("gives the work's result, its error, or deadline_exceeded, and tells the work to stop", async () => {
    const clock = new FakeClock();
    await expect(withDeadline(clock, 100, "ask", async () => 7)).resolves.toBe(7);
    await expect(withDeadline(clock, 100, "ask", () => Promise.reject(new Error("no")))).rejects.toThrow("no");
    let told: AbortSignal | undefined;
    const late = withDeadline(clock, 100, "ask", (signal) => {
      told = signal;
      return new Promise(() => undefined);
    });
    const outcome = expect(late).rejects.toMatchObject({ code: "deadline_exceeded" });
    await clock.advance(100);
    await outcome;
    expect(told?.aborted).toBe(true);
  });
});

describe("rng", () => {
  it("replays from a seed", () => {
    const [a, b] = [seededRng(7), seededRng(7)];
    expect([a.next(), a.below(10), a.id()]).toEqual([b.next(), b.below(10), b.id()]);
    expect(seededRng(8).id()).not.toBe(seededRng(7).id());
  });

  it("makes ids of 25 characters that do not repeat", () => {
    const ids = new Set(Array.from({ length: 1000 }, () => systemRng.id()));
    expect(ids.size).toBe(1000);
    for (const id of ids) expect(id).toMatch(/^[0-9a-z]{25}$/);
  });
});

describe("errors", () => {
  it("keeps what it is, names what it does not know, and lists every violation", () => {
    const known = new ClusterError("not_found", "no such thing");
    expect(toClusterError(known)).toBe(known);
    const odd = toClusterError("boom");
    expect([odd.code, odd.message]).toEqual(["internal", "boom"]);
    const invalid = ClusterError.invalid([
      { field: "a", value: "1", rule: "must be 2", fix: "write 2" },
      { field: "b", value: "", rule: "must not be empty", fix: "write something" },
    ]);
    expect(invalid.message).toBe('a: "1" must be 2; write 2\nb: "" must not be empty; write something');
    expect(invalid.retryable).toBe(false);
    expect(new ClusterError("conflict", "").retryable).toBe(true);
  });
});

describe("Lifetime", () => {
  it("aborts first, then ends its parts in reverse, all of them, whatever one throws", async () => {
    const order: string[] = [];
    const life = new Lifetime();
    life.signal.addEventListener("abort", () => order.push("abort"));
    life.defer(() => void order.push("first"));
    life.defer(() => {
      order.push("second");
      throw new Error("second failed");
    });
    life.use({ [Symbol.dispose]: () => void order.push("third") });
    await expect(life[Symbol.asyncDispose]()).rejects.toThrow("second failed");
    expect(order).toEqual(["abort", "third", "second", "first"]);
  });

  it("aborts with its parent", () => {
    const parent = new AbortController();
    const life = new Lifetime(parent.signal);
    parent.abort();
    expect(life.signal.aborted).toBe(true);
  });
});

describe("backoffMs", () => {
  it("doubles up to the maximum, less the jitter", () => {
    const backoff = { firstMs: 100, maxMs: 1000, jitter: 0 };
    expect([1, 2, 3, 4, 5, 500].map((n) => backoffMs(backoff, n, seededRng(1)))).toEqual([
      100, 200, 400, 800, 1000, 1000,
    ]);
    const jittered = backoffMs({ ...backoff, jitter: 0.5 }, 3, seededRng(1));
    expect(jittered).toBeGreaterThanOrEqual(200);
    expect(jittered).toBeLessThanOrEqual(400);
  });
});

describe("ReconcileLoop", () => {
  const loop = (clock: FakeClock, run: () => Promise<{ wakeAtMs?: number } | void>, debounceMs = 0) =>
    new ReconcileLoop({ name: "test", clock, rng: seededRng(1), log: silentLogger, run, debounceMs });

  it("makes one run of many wakes, and one more of those that come during a run", async () => {
    const clock = new FakeClock();
    let runs = 0;
    let release: () => void = () => undefined;
    await using it = loop(clock, async () => {
      runs += 1;
      if (runs === 1) await new Promise<void>((resolve) => (release = resolve));
    });
    it.wake();
    it.wake();
    await clock.advance(0);
    expect(runs).toBe(1);
    it.wake();
    it.wake();
    release();
    await settle();
    await clock.advance(0);
    expect(runs).toBe(2);
    await clock.advance(60_000);
    expect(runs).toBe(2);
  });

  it("repeats a failed run with growing waits, and does not hurry when woken", async () => {
    const clock = new FakeClock();
    const times: number[] = [];
    await using it = loop(clock, async () => {
      times.push(clock.now());
      if (times.length < 4) throw new Error("not yet");
    });
    it.wake();
    await clock.advance(0);
    it.wake();
    await clock.advance(10_000);
    expect(times).toHaveLength(4);
    const waits = times.slice(1).map((time, i) => time - (times[i] ?? 0));
    for (const [i, wait] of waits.entries()) {
      expect(wait).toBeGreaterThanOrEqual(70 * 2 ** i);
      expect(wait).toBeLessThanOrEqual(100 * 2 ** i);
    }
  });

  it("looks again when the run asked for it, or earlier when woken", async () => {
    const clock = new FakeClock();
    const times: number[] = [];
    const start = clock.now();
    await using it = loop(clock, async () => {
      times.push(clock.now() - start);
      return { wakeAtMs: start + 1000 * times.length };
    });
    it.wake();
    await clock.advance(1500);
    it.wake();
    await clock.advance(0);
    expect(times).toEqual([0, 1000, 1500]);
  });

  it("waits for the run under way when it ends, and runs no more", async () => {
    const clock = new FakeClock();
    let ended = false;
    const it = loop(clock, async () => {
      await settle();
      ended = true;
    });
    it.wake();
    await clock.advance(0);
    await it[Symbol.asyncDispose]();
    expect(ended).toBe(true);
    it.wake();
    expect(clock.nextDueMs).toBeUndefined();
  });
});

describe("BoundedStream", () => {
  it("gives everything in order, then ends", async () => {
    const stream = new BoundedStream<number>("numbers", 10);
    stream.push(1);
    stream.push(2);
    stream.end();
    const seen: number[] = [];
    for await (const n of stream) seen.push(n);
    expect(seen).toEqual([1, 2]);
  });

  it("ends with resync_required at its limit, and takes no more", async () => {
    const stream = new BoundedStream<number>("numbers", 2);
    expect([stream.push(1), stream.push(2), stream.push(3), stream.push(4)]).toEqual([true, true, false, false]);
    await expect(stream.next()).rejects.toMatchObject({ code: "resync_required" });
  });

  it("tells once when its reader leaves", async () => {
    let ends = 0;
    const stream = new BoundedStream<number>("numbers", 2, () => (ends += 1));
    stream.push(1);
    for await (const _ of stream) break;
    stream.end();
    expect(ends).toBe(1);
    expect(stream.push(2)).toBe(false);
  });
});

describe("LatestStream", () => {
  it("skips what a slow reader missed and keeps the newest", async () => {
    const stream = new LatestStream<number>("numbers");
    for (const n of [1, 2, 3]) stream.push(n);
    const reader = stream[Symbol.asyncIterator]();
    expect((await reader.next()).value).toBe(3);
    stream.push(4);
    expect((await reader.next()).value).toBe(4);
    stream.end();
    expect((await reader.next()).done).toBe(true);
  });
});

describe("units", () => {
  it.each([
    ["1m30s", 90_000],
    ["500ms", 500],
    ["1.5s", 1500],
    ["0", 0],
    ["2h", 7_200_000],
    ["10", undefined],
    ["-1s", undefined],
    ["1x", undefined],
    ["", undefined],
  ])("duration %s is %s", (text, ms) => expect(parseDurationMs(text)).toBe(ms));

  it.each([
    ["512m", 536_870_912],
    ["1.5g", 1_610_612_736],
    ["1024", 1024],
    ["2GiB", 2_147_483_648],
    ["64b", 64],
    ["1.5.5m", undefined],
    ["-1m", undefined],
    ["m", undefined],
  ])("size %s is %s", (text, bytes) => expect(parseBytes(text)).toBe(bytes));

  it.each([
    ["1.5", 1_500_000_000],
    ["0.001", 1_000_000],
    ["1.0000000001", undefined],
    ["one", undefined],
  ])("%s cores are %s", (text, nano) => expect(parseNanoCpus(text)).toBe(nano));

  it("writes them back", () => {
    expect([0, 500, 1500, 90_000, 60_000, 3_600_000].map(formatDurationMs)).toEqual([
      "0s",
      "500ms",
      "1.5s",
      "1m30s",
      "1m",
      "1h",
    ]);
    expect([0, 1023, 1536, 432_013_312, 68_719_476_736].map(formatBytes)).toEqual([
      "0 B",
      "1023 B",
      "1.5 KiB",
      "412 MiB",
      "64 GiB",
    ]);
  });
});

describe("ipv4", () => {
  it("reads exactly four octets and writes them back", () => {
    expect(formatIpv4(parseIpv4("10.127.0.53") ?? 0)).toBe("10.127.0.53");
    for (const bad of ["10.1.1", "10.1.1.256", "010.1.1.1", "10.1.1.1.1", "a.b.c.d", ""])
      expect(parseIpv4(bad)).toBeUndefined();
  });

  it("refuses a CIDR with bits behind its prefix, and knows what is inside", () => {
    expect(parseCidr("10.127.0.1/16")).toBeUndefined();
    expect(parseCidr("10.127.0.0/33")).toBeUndefined();
    const cidr = parseCidr("10.128.0.0/10") ?? { base: 0, prefix: 32 };
    expect(cidrContains(cidr, parseIpv4("10.191.255.255") ?? 0)).toBe(true);
    expect(cidrContains(cidr, parseIpv4("10.192.0.0") ?? 0)).toBe(false);
  });
});
