// How long the command line takes to start: `flotilla version` as a whole process, beside `docker --version` and beside
// Node itself doing nothing.

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { type Benchmark, median } from "./figure.js";

const cli = fileURLToPath(new URL("../cli/main.js", import.meta.url));

function seconds(program: string, args: readonly string[]): number {
  const startMs = performance.now();
  const { status, error } = spawnSync(program, args, { stdio: "ignore" });
  if (status !== 0) throw new Error(`${program} ${args.join(" ")} exited with ${status}`, { cause: error });
  return (performance.now() - startMs) / 1000;
}

export const startup: Benchmark = {
  name: "startup",
  help: "flotilla version as a whole process, beside docker --version and an empty node",
  run: async ({ rounds = 15 }) => {
    const [ours, docker, node]: [number[], number[], number[]] = [[], [], []];
    for (let i = 0; i < rounds; i += 1) {
      ours.push(seconds(process.execPath, [cli, "version"]));
      docker.push(seconds("docker", ["--version"]));
      node.push(seconds(process.execPath, ["-e", "0"]));
    }
    const name = "flotilla version, s";
    return [
      { name, ours: median(ours), peerName: "docker --version", peer: median(docker), goal: "ours <= 0.150 s" },
      { name, ours: median(ours), peerName: "node -e 0", peer: median(node), goal: "" },
    ];
  },
};
