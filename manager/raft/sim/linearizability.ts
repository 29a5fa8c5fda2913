// Whether a history of concurrent operations on one key could have happened one after another, each at some moment
// between its call and its return. The search is Wing and Gong's ("Testing and Verifying Concurrent Objects", 1993) with
// Lowe's memory of visited states (2017): a set of operations done and the state they led to is looked at once.

/** One operation on one key. Values are text, as in machine.ts. */
export interface Operation {
  client: number;
  kind: "write" | "append" | "read";
  /** What was written or appended; of a read, what was seen. */
  value: string;
  call: number;
  /** Infinity: nobody knows whether it happened. It may have, at any time after the call, or never. */
  return: number;
}

export type Verdict =
  | { linearizable: true }
  /** `stuck`: the longest order that fits, and the operations none of which can follow. */
  | { linearizable: false; done: readonly Operation[]; stuck: readonly Operation[] }
  /** The search was given up after `statesMax` states. */
  | { linearizable: "undecided" };

export const statesMaxDefault = 300_000;

function after(state: string, operation: Operation): string | undefined {
  switch (operation.kind) {
    case "write":
      return operation.value;
    case "append":
      return state === "" ? operation.value : `${state},${operation.value}`;
    case "read":
      return state === operation.value ? state : undefined;
  }
}

/**
 * Without what constrains nothing: reads that nobody got an answer to, and changes of unknown outcome that no read shows.
 * If an order with such a change fits, so does the same order without it: nothing that was read came after it and
 * before the next write, or after it in a list.
 */
function relevant(history: readonly Operation[]): Operation[] {
  const seen = new Set<string>();
  for (const { kind, value, return: ret } of history)
    if (kind === "read" && ret !== Infinity) for (const one of value.split(",")) seen.add(one);
  return history.filter(
    ({ kind, value, return: ret }) =>
      ret !== Infinity || (kind !== "read" && value.split(",").some((one) => seen.has(one))),
  );
}

/** `state` is what the key holds before the first operation. */
export function checkHistory(history: readonly Operation[], state = "", statesMax = statesMaxDefault): Verdict {
  const operations = relevant(history).sort((a, b) => a.call - b.call);
  const appendsOnly = operations.every(({ kind }) => kind !== "write");
  const count = operations.length;
  const words = Math.ceil(count / 32);
  const done = new Int32Array(words);
  const visited = new Set<string>();
  const order: number[] = [];
  /** States to go back to, one for each of `order`. */
  const states: string[] = [];
  let best: number[] = [];
  let now = state;
  /** Where to look for the next operation, after going back. */
  let from = 0;

  const isDone = (i: number): boolean => ((done[i >> 5] ?? 0) & (1 << (i & 31))) !== 0;
  const toggle = (i: number): void => {
    done[i >> 5] = (done[i >> 5] ?? 0) ^ (1 << (i & 31));
  };

  /** A list only grows: every read that is left has to begin with what is there. */
  const leadsOn = (list: string): boolean =>
    operations.every(
      ({ kind, value }, i) => kind !== "read" || isDone(i) || value === list || value.startsWith(`${list},`),
    );

  for (;;) {
    // Whatever is called after the first return among those left cannot be next.
    let firstReturn = Infinity;
    let allReturned = true;
    for (let i = 0; i < count; i += 1) {
      const operation = operations[i];
      if (operation === undefined || isDone(i)) continue;
      if (operation.return !== Infinity) allReturned = false;
      if (operation.return < firstReturn) firstReturn = operation.return;
    }
    // What is left, if anything, may never have happened.
    if (allReturned) return { linearizable: true };
    let stepped = false;
    for (let i = from; i < count; i += 1) {
      const operation = operations[i];
      if (operation === undefined || isDone(i)) continue;
      if (operation.call > firstReturn) break;
      const next = after(now, operation);
      if (next === undefined || (appendsOnly && operation.kind === "append" && !leadsOn(next))) continue;
      toggle(i);
      const key = `${done.join()}|${next}`;
      if (visited.has(key)) {
        toggle(i);
        continue;
      }
      if (visited.size >= statesMax) return { linearizable: "undecided" };
      visited.add(key);
      order.push(i);
      states.push(now);
      if (order.length > best.length) best = [...order];
      now = next;
      from = 0;
      stepped = true;
      break;
    }
    if (stepped) continue;
    const back = order.pop();
    if (back === undefined) {
      const chosen = new Set(best);
      const left = operations.filter((_, i) => !chosen.has(i));
      const earliest = Math.min(...left.map((operation) => operation.return));
      return {
        linearizable: false,
        done: best.flatMap((i) => operations[i] ?? []),
        stuck: left.filter((operation) => operation.call <= earliest),
      };
    }
    toggle(back);
    now = states.pop() ?? state;
    from = back + 1;
  }
}
