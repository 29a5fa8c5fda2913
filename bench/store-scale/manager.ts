// One manager's store as a process of its own, so that its memory and its start are its own: restores what the file
// holds, takes a snapshot of it, and says what that took, as JSON.

import { createReadStream } from "node:fs";
import { systemClock } from "../../lib/mod.js";
import { openRaftStore } from "../../manager/store/mod.js";

const path = process.argv[2];
if (path === undefined) throw new Error("which file?");

/** The chunks of a file of lengths and chunks. */
async function* chunksOf(file: string): AsyncGenerator<Uint8Array> {
  let left: Buffer = Buffer.alloc(0);
  for await (const part of createReadStream(file, { highWaterMark: 256 * 1_024 })) {
    left = Buffer.concat([left, part as Buffer]);
    for (let length = 0; left.length >= 4 && left.length >= (length = left.readUInt32LE()) + 4; ) {
      yield left.subarray(4, 4 + length);
      left = left.subarray(4 + length);
    }
  }
}

const store = openRaftStore({ clock: systemClock });
const startedMs = performance.now();
let longestTurnMs = 0;
let lastTurnMs = performance.now();
const watch = setInterval(() => {
  const nowMs = performance.now();
  longestTurnMs = Math.max(longestTurnMs, nowMs - lastTurnMs);
  lastTurnMs = nowMs;
}, 1);
await store.machine.restore(chunksOf(path));
const restoredMs = performance.now();
clearInterval(watch);
let bytes = 0;
let longestChunkMs = 0;
let fromMs = performance.now();
for (const chunk of store.machine.snapshot()) {
  bytes += chunk.length;
  longestChunkMs = Math.max(longestChunkMs, performance.now() - fromMs);
  fromMs = performance.now();
}
const encodedMs = performance.now();
console.log(
  JSON.stringify({
    tasks: store.view().tasks.size,
    restoreS: (restoredMs - startedMs) / 1_000,
    longestTurnMs,
    encodeS: (encodedMs - restoredMs) / 1_000,
    longestChunkMs,
    snapshotMB: bytes / 1e6,
    rssMB: process.memoryUsage().rss / 1e6,
    heapMB: process.memoryUsage().heapUsed / 1e6,
  }),
);
