// Loaded into a manager before its program: it ends with the benchmark, however that ends, and where
// FLOTILLA_BENCH_PROFILES names a directory SIGUSR2 begins a profile of its CPU and the next one writes it there.

import { writeFileSync } from "node:fs";
import { Session } from "node:inspector/promises";
import { join } from "node:path";

process.on("disconnect", () => process.exit(0));

const directory = process.env["FLOTILLA_BENCH_PROFILES"];

function profileOnSignal(into: string): void {
  const session = new Session();
  session.connect();
  let count = 0;
  let isUnder = false;
  process.on("SIGUSR2", () => {
    void (async () => {
      isUnder = !isUnder;
      if (isUnder) {
        await session.post("Profiler.enable");
        await session.post("Profiler.start");
        return;
      }
      const { profile } = await session.post("Profiler.stop");
      count += 1;
      writeFileSync(join(into, `${process.pid}-${count}.cpuprofile`), JSON.stringify(profile));
    })();
  });
}

if (directory !== undefined) profileOnSignal(directory);
