// npm run bench [-- NAME [--json] [--rounds N]]

import { parseArgs } from "node:util";
import { messageOf } from "../lib/mod.js";
import { deploy } from "./deploy.js";
import { type Benchmark, ratio, table } from "./figure.js";
import { raft } from "./raft/mod.js";
import { scale } from "./scale/mod.js";
import { packing } from "./packing.js";
import { scheduler } from "./scheduler.js";
import { startup } from "./startup.js";
import { storeScale } from "./store-scale/main.js";

const benchmarks: readonly Benchmark[] = [deploy, packing, raft, scale, scheduler, startup, storeScale];

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { json: { type: "boolean" }, rounds: { type: "string" } },
  });
  const [name] = positionals;
  const benchmark = benchmarks.find((candidate) => candidate.name === name);
  if (benchmark === undefined) {
    if (name !== undefined) console.error(`no benchmark ${JSON.stringify(name)}; there are:`);
    for (const { name, help } of benchmarks) console.log(`${name.padEnd(12)} ${help}`);
    return name === undefined ? 0 : 125;
  }
  const rounds = values.rounds === undefined ? undefined : Number(values.rounds);
  if (rounds !== undefined && (!Number.isInteger(rounds) || rounds < 1 || rounds > 100)) {
    console.error(
      `--rounds: ${JSON.stringify(values.rounds)} must be an integer from 1 to 100; write for example --rounds 3`,
    );
    return 125;
  }
  const figures = await benchmark.run({ progress: (line) => console.error(line), rounds });
  if (values.json === true)
    for (const figure of figures) console.log(JSON.stringify({ ...figure, ratio: ratio(figure) }));
  else console.log(table(figures));
  return 0;
}

try {
  process.exitCode = await main();
} catch (failure) {
  console.error(`bench: ${messageOf(failure)}`);
  process.exitCode = 1;
}
