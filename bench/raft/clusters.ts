// Three members each, as processes with data directories side by side on one disk.

import { type ChildProcess, fork, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { ClusterStatus } from "../../proto/gen/flotilla/control/v1/control.js";
import { freePorts, until, untilUp } from "../wait.js";

const members = 3;
const readyMs = 30_000;

export interface Cluster extends AsyncDisposable {
  /** host:port of the member that leads. */
  leader: string;
  processes: readonly ChildProcess[];
}

function disposable(processes: readonly ChildProcess[]) {
  return async () => {
    await Promise.all(
      processes.map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const gone = once(child, "exit");
        child.kill("SIGKILL");
        await gone;
      }),
    );
  };
}

/** `program` is started with DATA_DIR ADDRESS [JOIN], and answers "status" with what it knows of the cluster. */
export async function startOurs(
  directory: string,
  program = fileURLToPath(new URL("member.js", import.meta.url)),
): Promise<Cluster> {
  const addresses = (await freePorts(members)).map((port) => `127.0.0.1:${port}`);
  const [first = ""] = addresses;
  const processes: ChildProcess[] = [];
  const dispose = disposable(processes);
  try {
    for (const [i, address] of addresses.entries())
      processes.push(fork(program, [join(directory, `ours-${i}`), address, ...(i === 0 ? [] : [first])]));
    const leader = await until("three members of ours that vote", readyMs, async () => {
      const [child] = processes;
      if (child === undefined) return undefined;
      const answer = once(child, "message", { signal: AbortSignal.timeout(2_000) });
      child.send("status");
      const [status] = (await answer.catch(() => [undefined])) as [ClusterStatus | undefined];
      const voters = status?.managers.filter(({ voter, reachable }) => voter && reachable) ?? [];
      return voters.length === members ? voters.find((member) => member.leader)?.address : undefined;
    });
    return { leader, processes, [Symbol.asyncDispose]: dispose };
  } catch (failure) {
    await dispose();
    throw failure;
  }
}

export async function startEtcd(directory: string): Promise<Cluster> {
  const ports = await freePorts(members * 2);
  const at = (i: number) => `http://127.0.0.1:${ports[i]}`;
  const peer = (i: number) => at(members + i);
  const cluster = Array.from({ length: members }, (_, i) => `m${i}=${peer(i)}`).join(",");
  const processes = Array.from({ length: members }, (_, i) =>
    spawn(
      "etcd",
      [
        ["--name", `m${i}`, "--data-dir", join(directory, `etcd-${i}`)],
        ["--listen-client-urls", at(i), "--advertise-client-urls", at(i)],
        ["--listen-peer-urls", peer(i), "--initial-advertise-peer-urls", peer(i)],
        ["--initial-cluster", cluster, "--initial-cluster-state", "new", "--logger", "zap", "--log-level", "error"],
      ].flat(),
      { stdio: "ignore" },
    ),
  );
  const dispose = disposable(processes);
  try {
    // The member whose id is the leader's says so in its metrics.
    const leader = await untilUp("an etcd leader", readyMs, async () => {
      for (let i = 0; i < members; i += 1) {
        const answer = await fetch(`${at(i)}/metrics`, { signal: AbortSignal.timeout(2_000) });
        if (/^etcd_server_is_leader 1$/m.test(await answer.text())) return at(i).replace("http://", "");
      }
      return undefined;
    });
    return { leader, processes, [Symbol.asyncDispose]: dispose };
  } catch (failure) {
    await dispose();
    throw failure;
  }
}
