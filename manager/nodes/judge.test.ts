import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NodeState } from "../../proto/mod.js";
import { brakeMessage, judgeNodes, type NodeSighting, type Watch } from "./mod.js";

const wallMs = 1_700_000_000_000;
const nowMs = 1_000_000;

interface Sketch {
  state?: NodeState;
  /** Without a sign of life for so long. */
  silentMs: number;
  connected?: boolean;
  registering?: boolean;
  wasSeen?: boolean;
  confirmed?: boolean;
  lastSeenAtMs?: number;
}

function node(id: string, sketch: Sketch): NodeSighting {
  const { state = NodeState.UNKNOWN, silentMs, connected = false, registering = false, wasSeen = true } = sketch;
  return {
    id,
    status: {
      state,
      message: "",
      sinceMs: 0,
      lossConfirmed: sketch.confirmed ?? false,
      lastSeenAtMs: sketch.lastSeenAtMs ?? 0,
    },
    connected,
    registering,
    seenMs: nowMs - silentMs,
    wasSeen,
  };
}

const here: Sketch = { state: NodeState.READY, silentMs: 2_000, connected: true };
const lost: Sketch = { silentMs: 15_000 };

function judge(sketches: readonly Sketch[], watch: Partial<Watch> = {}) {
  const nodes = sketches.map((sketch, i) => node(`n${i + 1}`, sketch));
  const { verdicts, brake, nextMs } = judgeNodes({
    nodes,
    brake: undefined,
    lostAfterMs: 15_000,
    releasedMs: undefined,
    nowMs,
    wallMs,
    ...watch,
  });
  const states = nodes.map(({ id, status }) => verdicts.get(id)?.state ?? status.state);
  return { states, brake, inMs: nextMs === undefined ? undefined : nextMs - nowMs, verdicts };
}

const { READY, UNKNOWN, DOWN } = NodeState;
const held = { sinceMs: wallMs - 60_000, lostNodes: 3, nodes: 4 };

describe("one node", () => {
  test("is UNKNOWN without a session, DOWN after lost_after, and says when it was heard of last", () => {
    const { states, inMs, verdicts } = judge([here, here, { state: READY, silentMs: 4_000 }]);
    expect([states, inMs]).toEqual([[READY, READY, UNKNOWN], 11_000]);
    expect(verdicts.get("n3")).toEqual({ state: UNKNOWN, message: "not connected", lastSeenAtMs: wallMs - 4_000 });
    expect(judge([here, here, { silentMs: 14_999 }]).states).toEqual([READY, READY, UNKNOWN]);
    expect(judge([here, here, lost]).verdicts.get("n3")).toEqual({
      state: DOWN,
      message: "no sign of life for 15 s",
      lastSeenAtMs: wallMs - 15_000,
    });
  });

  test("lost_after is the cluster's", () => {
    const { states, inMs } = judge([here, here, { silentMs: 20_000 }], { lostAfterMs: 60_000 });
    expect([states[2], inMs]).toEqual([UNKNOWN, 40_000]);
  });

  test("that is registering is left alone; one that is back is READY, and last seen no more", () => {
    expect(judge([here, here, { ...lost, state: DOWN, registering: true }]).states[2]).toBe(DOWN);
    expect(judge([here, here, { ...lost, registering: true }]).verdicts.size).toBe(0);
    const back = judge([here, here, { silentMs: 0, connected: true, lastSeenAtMs: 5 }]).verdicts.get("n3");
    expect(back).toEqual({ state: READY, message: "connected", lastSeenAtMs: 0 });
  });

  test("whom a new leader never heard of has lost_after and the start grace, and keeps its last sign of life", () => {
    const never = { silentMs: 15_000, wasSeen: false, lastSeenAtMs: wallMs - 40_000 };
    expect(judge([here, here, never])).toMatchObject({ states: [READY, READY, UNKNOWN], inMs: 5_000 });
    const { states, verdicts } = judge([here, here, { ...never, silentMs: 20_000 }]);
    expect(states[2]).toBe(DOWN);
    expect(verdicts.get("n3")).toMatchObject({ lastSeenAtMs: wallMs - 40_000, message: "no sign of life for 40 s" });
    // Nobody knows: it cannot have been heard of after this leader began.
    const since = judge([here, here, { silentMs: 20_000, wasSeen: false }]).verdicts.get("n3");
    expect(since?.lastSeenAtMs).toBe(wallMs - 20_000);
  });

  test("whose loss was confirmed is DOWN at once, unless it is there", () => {
    expect(judge([here, here, { silentMs: 1, confirmed: true }]).states[2]).toBe(DOWN);
    expect(judge([here, here, { ...here, confirmed: true }]).states[2]).toBe(READY);
  });
});

describe("the brake", () => {
  test("holds when more than half are lost at once: nobody becomes DOWN, and it says why", () => {
    const { states, brake, verdicts } = judge([here, lost, lost, lost]);
    expect(states).toEqual([READY, UNKNOWN, UNKNOWN, UNKNOWN]);
    expect(brake).toEqual({ lostNodes: 3, nodes: 4 });
    expect(verdicts.get("n2")?.message).toBe(brakeMessage);
  });

  test("does not hold for half of them, nor for one node that is all there is", () => {
    expect(judge([here, here, lost, lost])).toMatchObject({ states: [READY, READY, DOWN, DOWN], brake: undefined });
    expect(judge([lost])).toMatchObject({ states: [DOWN], brake: undefined });
    expect(judge([lost, lost]).brake).toEqual({ lostNodes: 2, nodes: 2 });
  });

  test("counts those whose heartbeats were cut at the same moment, up to a period apart, sessions open or not", () => {
    const cut: Sketch = { state: READY, silentMs: 9_600, connected: true };
    expect(judge([here, lost, cut, { ...cut, silentMs: 12_000 }]).brake).toEqual({ lostNodes: 3, nodes: 4 });
    // A moment between two heartbeats is no loss.
    expect(judge([here, lost, { ...cut, silentMs: 5_400 }, here]).brake).toBeUndefined();
  });

  test("counts those that went DOWN within lost_after, not those that went long ago", () => {
    const recent: Sketch = { state: DOWN, silentMs: 0, lastSeenAtMs: wallMs - 29_000 };
    const longAgo: Sketch = { state: DOWN, silentMs: 0, lastSeenAtMs: wallMs - 31_000 };
    expect(judge([here, lost, recent]).brake).toEqual({ lostNodes: 2, nodes: 3 });
    expect(judge([here, lost, longAgo])).toMatchObject({ states: [READY, DOWN, DOWN], brake: undefined });
  });

  test("goes on until no more than half are lost; who is still away then gets lost_after again", () => {
    expect(judge([here, here, lost, lost, lost], { brake: held }).brake).toEqual({ lostNodes: 3, nodes: 5 });
    const nodes = [here, here, lost, lost];
    expect(judge(nodes, { brake: held }).brake).toBeUndefined();
    const released = judge(nodes, { releasedMs: nowMs });
    expect(released).toMatchObject({ states: [READY, READY, UNKNOWN, UNKNOWN], inMs: 15_000 });
    expect(judge(nodes, { releasedMs: nowMs - 15_000 }).states).toEqual([READY, READY, DOWN, DOWN]);
  });

  test("is kept by a new leader until it has heard from the nodes", () => {
    const notYet: Sketch = { silentMs: 100, wasSeen: false };
    expect(judge([here, notYet, notYet, notYet], { brake: held }).brake).toEqual({ lostNodes: 3, nodes: 4 });
  });

  test("lets a confirmed loss pass, which counts no more", () => {
    const { states, brake } = judge([here, lost, lost, { ...lost, confirmed: true }], { brake: held });
    expect(states).toEqual([READY, UNKNOWN, UNKNOWN, DOWN]);
    expect(brake).toEqual({ lostNodes: 2, nodes: 3 });
  });

  test("property: never does it happen that most of the nodes that were there become DOWN in one judgement", () => {
    const anySketch = fc.record({
      silentMs: fc.integer({ min: 0, max: 60_000 }),
      connected: fc.boolean(),
      wasSeen: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(anySketch, { minLength: 2, maxLength: 12 }), (sketches) => {
        const { states, brake } = judge(sketches);
        const down = states.filter((state) => state === DOWN).length;
        if (down >= 2) expect(down * 2).toBeLessThanOrEqual(sketches.length);
        if (brake !== undefined) expect(down).toBe(0);
      }),
    );
  });
});
