// What the larger `flotilla lab` commands do and print: messages on stderr, data on stdout.
import { existsSync } from "node:fs";
import { ClusterError } from "../../lib/mod.js";
import { Lab, type LabStatus, type Part, type UpOptions, runInherited } from "../../packaging/lab/mod.js";
import { type Need, ensureSystem } from "../../packaging/setup/mod.js";
import type { Io } from "../io.js";
import { link, readLink, unlink } from "./link.js";

const BASE_NEEDS: readonly Need[] = ["docker", "busybox", "iptables", "iproute2", "util-linux"];

export async function up(io: Io, options: UpOptions): Promise<void> {
  const began = io.clock.monotonic();
  const abort = new AbortController();
  const free = io.onStop((name) => {
    if (abort.signal.aborted) return;
    io.err("\nstopping; removing what was begun …\n");
    abort.abort(new ClusterError("cancelled", `interrupted by ${name}; nothing is left of it`));
  });
  const progress = (line: string): void => io.err(`  ${line}\n`);
  try {
    // Wrong options are refused before anything is installed.
    Lab.check(options);
    await ensureSystem({ need: options.store === "etcd" ? [...BASE_NEEDS, "etcd"] : BASE_NEEDS, print: progress });
    const lab = await Lab.up({ ...options, signal: abort.signal, progress });
    if (lab.plan.processes) link(lab, io.env);
    const { dashboard, complete } = await lab.status();
    if (!lab.created) {
      io.err(`lab ${lab.name} is up already${complete ? "" : ", but not all of it runs: flotilla lab status"}\n`);
      return;
    }
    const seconds = ((io.clock.monotonic() - began) / 1000).toFixed(1);
    const flag = lab.name === "default" ? "" : ` --name ${lab.name}`;
    io.err(`lab ${lab.name} is up: ${lab.hosts.length} hosts in ${seconds} s\n`);
    if (dashboard !== null) {
      io.err(`  metrics    ${dashboard}/metrics\n`);
      io.err("  try        flotilla service create --name web --replicas 3 --publish 8080:80 flotilla/demo:1\n");
    }
    io.err(`  engines    flotilla lab docker${flag} 1 ps\n`);
    io.err(`  end        flotilla lab down${flag}\n`);
  } finally {
    free();
  }
}

export async function down(io: Io, names: readonly string[]): Promise<void> {
  if (names.length === 0) io.err("there is no lab\n");
  for (const name of names) {
    const linked = readLink(Lab.folder(name));
    const existed = await Lab.down(name);
    unlink(name, linked, io.env);
    io.err(existed ? `lab ${name} is down\n` : `there is no lab ${name}\n`);
  }
}

export async function status(io: Io, lab: Lab, json: boolean): Promise<void> {
  const shown = await lab.status();
  io.out(json ? `${JSON.stringify(shown, null, 2)}\n` : render(shown));
}

/** As wide as it must be, at most a screen of lines. */
function render(lab: LabStatus): string {
  const rows = lab.hosts.map((host) => [
    host.name,
    host.address,
    host.powered ? "up" : "no power",
    host.containers === null ? "-" : String(host.containers),
    host.daemons.map(({ name, pid }) => `${name} ${pid ?? "down"}`).join("  "),
  ]);
  const table = [["HOST", "ADDRESS", "STATE", "CONTAINERS", "PROCESSES (PID)"], ...rows];
  const widths = (table[0] ?? []).map((_, column) => Math.max(...table.map((row) => (row[column] ?? "").length)));
  const lines = table.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("   ")
      .trimEnd(),
  );
  const cuts = lab.cuts.map(({ from, to }) => `h${from} -> h${to}`).join(", ");
  return [
    `lab ${lab.name}: ${lab.subnet}.0/24${lab.etcd.length === 0 ? "" : `, etcd ${lab.etcd.join(",")}`}`,
    ...(lab.dashboard === null ? [] : [`metrics ${lab.dashboard}/metrics`]),
    ...lines,
    ...(cuts === "" ? [] : [`cut: ${cuts}`]),
    "",
  ].join("\n");
}

export async function logs(lab: Lab, part: Part, n: number, follow: boolean, lines: number | null): Promise<number> {
  if (part === "host") {
    const rule = "must be a process; a host has no log of its own";
    throw ClusterError.invalid([
      { field: "process", value: part, rule, fix: `write for example: flotilla lab logs dockerd ${n}` },
    ]);
  }
  // The agent starts the ambassador, and keeps its log.
  const file = lab.logFile(part, n);
  if (!existsSync(file)) throw new ClusterError("not_found", `${part} has never run on host ${n} of lab ${lab.name}`);
  return await runInherited("tail", ["-n", lines === null ? "+1" : String(lines), ...(follow ? ["-F"] : []), file]);
}
