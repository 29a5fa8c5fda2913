import { describe, expect, it } from "vitest";
import { checkHistory, type Operation } from "./linearizability.js";

let client = 0;
const op = (kind: Operation["kind"], value: string, call: number, ret: number): Operation => ({
  client: (client += 1),
  kind,
  value,
  call,
  return: ret,
});
const write = (value: string, call: number, ret: number) => op("write", value, call, ret);
const append = (value: string, call: number, ret: number) => op("append", value, call, ret);
const read = (value: string, call: number, ret: number) => op("read", value, call, ret);
const verdict = (...history: Operation[]) => checkHistory(history).linearizable;

describe("histories that could have happened", () => {
  it("nothing, and reads of nothing", () => {
    expect(verdict()).toBe(true);
    expect(verdict(read("", 0, 1))).toBe(true);
  });
  it("one after another", () => {
    expect(verdict(write("1", 0, 1), read("1", 2, 3), write("2", 4, 5), read("2", 6, 7))).toBe(true);
  });
  it("a read that overlaps a write sees the old or the new value", () => {
    expect(verdict(write("1", 0, 1), write("2", 2, 9), read("1", 3, 4), read("2", 5, 6))).toBe(true);
    expect(verdict(write("1", 0, 1), write("2", 2, 9), read("1", 3, 4), read("1", 5, 6))).toBe(true);
  });
  it("writes at once take effect in either order", () => {
    expect(verdict(write("1", 0, 9), write("2", 0, 9), read("1", 10, 11))).toBe(true);
    expect(verdict(write("1", 0, 9), write("2", 0, 9), read("2", 10, 11))).toBe(true);
  });
  it("a write without an answer happened late, or never", () => {
    expect(verdict(write("1", 0, 1), write("2", 2, Infinity), read("1", 5, 6), read("2", 7, 8))).toBe(true);
    expect(verdict(write("1", 0, 1), write("2", 2, Infinity), read("1", 5, 6), read("1", 7, 8))).toBe(true);
  });
  it("appends at once in any order that the reads agree on", () => {
    expect(verdict(append("1", 0, 9), append("2", 0, 9), read("2,1", 10, 11), read("2,1", 12, 13))).toBe(true);
  });
  it("sixty operations with many at once, without searching all orders", () => {
    const history: Operation[] = [];
    for (let round = 0; round < 12; round += 1) {
      for (let i = 0; i < 4; i += 1) history.push(write(`${round}.${i}`, round * 10, round * 10 + 8));
      history.push(read(`${round}.2`, round * 10 + 9, round * 10 + 9.5));
    }
    expect(checkHistory(history).linearizable).toBe(true);
  });
});

describe("histories that could not", () => {
  it("a stale read", () => {
    expect(verdict(write("1", 0, 1), write("2", 2, 3), read("1", 4, 5))).toBe(false);
  });
  it("a lost write", () => {
    expect(verdict(write("1", 0, 1), read("", 2, 3))).toBe(false);
    expect(verdict(append("1", 0, 1), append("2", 2, 3), read("1", 4, 5))).toBe(false);
  });
  it("a write that took effect twice", () => {
    expect(verdict(append("1", 0, 1), append("2", 2, 3), read("1,2,1", 4, 5))).toBe(false);
    expect(verdict(write("1", 0, 1), write("2", 2, 3), read("1", 4, 5))).toBe(false);
  });
  it("a split brain: two reads that no one order explains", () => {
    expect(verdict(append("1", 0, 9), append("2", 0, 9), read("1,2", 10, 11), read("2,1", 10, 11))).toBe(false);
    expect(verdict(append("1", 0, 9), append("2", 0, 9), read("1", 10, 11), read("2", 10, 11))).toBe(false);
  });
  it("a value that goes back", () => {
    expect(verdict(write("1", 0, 1), write("2", 2, 20), read("2", 3, 4), read("1", 5, 6))).toBe(false);
  });
  it("a value that nobody wrote, or that is written later", () => {
    expect(verdict(read("7", 0, 1))).toBe(false);
    expect(verdict(read("1", 0, 1), write("1", 2, 3))).toBe(false);
  });
  it("a write without an answer that came and went", () => {
    expect(verdict(write("1", 0, 1), write("2", 2, Infinity), read("2", 3, 4), read("1", 5, 6))).toBe(false);
  });
  it("tells what could not follow", () => {
    const stale = read("1", 4, 5);
    const found = checkHistory([write("1", 0, 1), write("2", 2, 3), stale]);
    expect(found).toMatchObject({ linearizable: false, stuck: [stale] });
  });
});

it("gives up where asked to, and says so", () => {
  const history = Array.from({ length: 12 }, (_, i) => write(`${i}`, 0, 9));
  expect(checkHistory([...history, read("nothing like it", 10, 11)], "", 500).linearizable).toBe("undecided");
});

it("agrees with trying every order, on small random histories", () => {
  // A generator of its own: the check must not depend on the simulator.
  let state = 12_345;
  const below = (n: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return Math.floor((state / 0x8000_0000) * n);
  };
  const answers = { true: 0, false: 0 };
  for (let round = 0; round < 3_000; round += 1) {
    const history = Array.from({ length: 2 + below(4) }, (): Operation => {
      const call = below(10);
      const ret = below(8) === 0 ? Infinity : call + 1 + below(8);
      const kind = below(2) === 0 ? "read" : below(2) === 0 ? "write" : "append";
      const value = kind === "read" ? ["", "1", "2", "1,2", "2,1"][below(5)]! : `${1 + below(2)}`;
      return op(kind, value, call, ret);
    });
    const expected = bruteForce(history);
    expect(checkHistory(history).linearizable).toBe(expected);
    answers[`${expected}`] += 1;
  }
  // Both answers were asked for often.
  expect(Math.min(answers.true, answers.false)).toBeGreaterThan(300);
});

function bruteForce(left: readonly Operation[], state = ""): boolean {
  if (left.every((operation) => operation.return === Infinity)) return true;
  return left.some((operation, i) => {
    if (left.some((other) => other.return < operation.call)) return false;
    if (operation.kind === "read" && operation.return !== Infinity && operation.value !== state) return false;
    const appended = state === "" ? operation.value : `${state},${operation.value}`;
    const next = operation.kind === "write" ? operation.value : operation.kind === "append" ? appended : state;
    return bruteForce(left.toSpliced(i, 1), next);
  });
}
