// Loaded into a manager before its program where FLOTILLA_BENCH_PROFILES names a directory: SIGUSR2 begins a profile
// of its CPU, the next one writes it there.

import { writeFileSync } from "node:fs";
import { Session } from "node:inspector/promises";
import { join } from "node:path";

const directory = process.env["FLOTILLA_BENCH_PROFILES"] ?? ".";
const session = new Session();
session.connect();
let count = 0;
let under = false;

process.on("SIGUSR2", () => {
  void (async () => {
    under = !under;
    if (under) {
      await session.post("Profiler.enable");
      await session.post("Profiler.start");
      return;
    }
    const { profile } = await session.post("Profiler.stop");
    count += 1;
    writeFileSync(join(directory, `${process.pid}-${count}.cpuprofile`), JSON.stringify(profile));
  })();
});
