// npm run sim: runs seeds of the simulator, in as many processes as there are processors.
//
//   npm run sim -- --seeds 10000            seeds 1 … 10000
//   npm run sim -- --seeds 100 --from 500   seeds 500 … 599
//   npm run sim -- --seed 17 --trace        one seed again, each event on a line
//
// Ends with 0 when all held, 1 when something broke, 2 when it was asked for something that is not there.

import { execFileSync, fork } from "node:child_process";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { addCoverage, type Coverage, covered, noCoverage } from "./coverage.js";
import { type Profile, profiles } from "./plan.js";
import { type Result, simulate } from "./simulation.js";

interface Asked {
  seeds: number;
  from: number;
  jobs: number;
  profile: Profile | undefined;
  /** One seed only. */
  seed: number | undefined;
  trace: boolean;
  /** Lines of the trace that a failure shows. */
  last: number;
  /** Failures after which no more seeds are begun. */
  failures: number;
}

const usage = `usage: npm run sim -- [--seeds N] [--from S] [--jobs J] [--profile P] [--failures F] [--last L]
       npm run sim -- --seed S [--profile P] [--trace]
  --seeds N     how many seeds; default 1000
  --from S      the first of them; default 1
  --jobs J      processes; default the number of processors
  --profile P   one kind of trouble for all seeds: ${profiles.join(", ")}
  --failures F  stop after so many failures; default 3
  --last L      events before a failure that are printed; default 60, 0 for none
  --seed S      one seed; --trace prints each of its events`;

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

class Usage extends Error {}

function parse(args: readonly string[]): Asked {
  const asked: Asked = {
    seeds: 1_000,
    from: 1,
    jobs: availableParallelism(),
    profile: undefined,
    seed: undefined,
    trace: false,
    last: 60,
    failures: 3,
  };
  const left = [...args];
  const numberOf = (flag: string, min: number): number => {
    const text = left.shift() ?? "";
    const value = Number(text);
    if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < min)
      throw new Usage(`${flag} ${text || "(nothing)"}: it must be an integer of at least ${min}`);
    return value;
  };
  for (;;) {
    const flag = left.shift();
    switch (flag) {
      case undefined:
        return asked;
      case "--seeds":
        asked.seeds = numberOf(flag, 1);
        break;
      case "--from":
        asked.from = numberOf(flag, 0);
        break;
      case "--jobs":
        asked.jobs = numberOf(flag, 1);
        break;
      case "--seed":
        asked.seed = numberOf(flag, 0);
        break;
      case "--last":
        asked.last = numberOf(flag, 0);
        break;
      case "--failures":
        asked.failures = numberOf(flag, 1);
        break;
      case "--trace":
        asked.trace = true;
        break;
      case "--profile": {
        const name = left.shift() ?? "";
        const profile = profiles.find((known) => known === name);
        if (profile === undefined)
          throw new Usage(`--profile ${name || "(nothing)"}: it must be one of ${profiles.join(", ")}`);
        asked.profile = profile;
        break;
      }
      default:
        throw new Usage(`${flag}: no such option`);
    }
  }
}

const optionsOf = (profile: Profile | undefined): { profile?: Profile } => (profile === undefined ? {} : { profile });

function commit(): string {
  try {
    const cwd = fileURLToPath(new URL(".", import.meta.url));
    const git = (...args: string[]): string =>
      execFileSync("git", args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
    return (
      git("rev-parse", "--short=12", "HEAD") + (git("status", "--porcelain", "--", "..") === "" ? "" : ", with changes")
    );
  } catch {
    // Not a clone, or no git here: the version must do.
    return "unknown (this is no git clone)";
  }
}

/** All that is needed to find out why. The seed is run again, for its last events. */
function explain(result: Result, asked: Asked): string {
  const profile = asked.profile === undefined ? "" : ` --profile ${asked.profile}`;
  const head = `seed ${result.seed} (${result.profile}) broke, commit ${commit()}\n  ${result.broken ?? ""}`;
  const replay = `  again: npm run sim -- --seed ${result.seed}${profile} --trace`;
  if (asked.last === 0) return `${head}\n${replay}`;
  const lines: string[] = [];
  const again = simulate(result.seed, {
    ...optionsOf(asked.profile),
    trace: (line) => {
      lines.push(line);
      if (lines.length > asked.last) lines.shift();
    },
  });
  return [
    head,
    ...(again.hash === result.hash
      ? []
      : ["  a second run of the seed went another way: the simulator is not deterministic here"]),
    `  the last ${lines.length} of ${result.events} events:`,
    ...lines.map((line) => `    ${line}`),
    replay,
  ].join("\n");
}

interface Chunk {
  from: number;
  count: number;
  profile: Profile | undefined;
  /** Seeds that break after which it ends early. */
  failures: number;
}

interface ChunkResult {
  done: number;
  coverage: Coverage;
  events: number;
  broken: Result[];
}

function runChunk({ from, count, profile, failures }: Chunk): ChunkResult {
  const coverage = noCoverage();
  const broken: Result[] = [];
  let events = 0;
  let done = 0;
  for (; done < count && broken.length < failures; done += 1) {
    const result = simulate(from + done, optionsOf(profile));
    addCoverage(coverage, result.coverage);
    events += result.events;
    if (result.broken !== undefined) broken.push(result);
  }
  return { done, coverage, events, broken };
}

const chunkSeeds = 20;

async function runMany(asked: Asked): Promise<number> {
  const began = process.hrtime.bigint();
  const coverage = noCoverage();
  let events = 0;
  let next = asked.from;
  let done = 0;
  let broken = 0;
  const end = asked.from + asked.seeds;
  const take = (): Chunk | undefined => {
    if (next >= end || broken >= asked.failures) return undefined;
    const from = next;
    next = Math.min(end, next + chunkSeeds);
    return { from, count: next - from, profile: asked.profile, failures: asked.failures - broken };
  };
  const add = (result: ChunkResult): void => {
    addCoverage(coverage, result.coverage);
    events += result.events;
    done += result.done;
    for (const one of result.broken) {
      broken += 1;
      if (broken <= asked.failures) print(explain(one, asked));
    }
  };
  const jobs = Math.min(asked.jobs, Math.ceil(asked.seeds / chunkSeeds));
  if (jobs === 1) for (let chunk = take(); chunk !== undefined; chunk = take()) add(runChunk(chunk));
  else await Promise.all(Array.from({ length: jobs }, () => runWorker(take, add)));
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  print(
    `${done} seeds (${asked.from} … ${next - 1}), ${broken} broke, ${events} events, ${seconds.toFixed(1)} s, ${Math.round(done / seconds)} seeds/s`,
  );
  print(covered.map((name) => `${name} ${coverage[name]}`).join(", "));
  return broken === 0 ? 0 : 1;
}

function runWorker(take: () => Chunk | undefined, add: (result: ChunkResult) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = fork(fileURLToPath(import.meta.url), ["--worker"], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    let chunk = take();
    const give = (): void => {
      if (chunk === undefined) worker.disconnect();
      else worker.send(chunk);
    };
    worker.on("message", (result: ChunkResult) => {
      add(result);
      chunk = take();
      give();
    });
    worker.on("error", reject);
    worker.on("exit", (code, signal) => {
      if (chunk === undefined) resolve();
      else reject(new Error(`a worker process ended (${signal ?? `exit code ${code}`}) at seeds ${chunk.from} …`));
    });
    give();
  });
}

function work(): void {
  process.on("message", (chunk: Chunk) => {
    process.send?.(runChunk(chunk));
  });
}

async function main(args: readonly string[]): Promise<number> {
  if (args.includes("--help") || args.includes("-h")) {
    print(usage);
    return 0;
  }
  const asked = parse(args);
  if (asked.seed === undefined) return await runMany(asked);
  const result = simulate(asked.seed, { ...optionsOf(asked.profile), ...(asked.trace ? { trace: print } : {}) });
  print(
    `seed ${result.seed} (${result.profile}): ${result.broken ?? "all held"}; ${result.events} events, hash ${result.hash.toString(16).padStart(8, "0")}, commit ${commit()}`,
  );
  return result.broken === undefined ? 0 : 1;
}

if (process.argv[2] === "--worker") work();
else
  try {
    process.exitCode = await main(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof Usage)) throw error;
    process.stderr.write(`${error.message}\n${usage}\n`);
    process.exitCode = 2;
  }
