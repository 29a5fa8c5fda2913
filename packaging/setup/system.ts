// Sees to it that the programs we need are installed: as root on Debian or Ubuntu by apt-get, elsewhere by saying exactly what is
// missing and how to get it. A program that is there is never touched, whoever installed it and in whatever version.
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { spawn } from "node:child_process";
import { ClusterError } from "../../lib/mod.js";
import { FOLDERS, type Need, type Program, findProgram, missingPrograms, refusalToInstall } from "./programs.mjs";

const POLICY = "/usr/sbin/policy-rc.d";

export interface SystemOptions {
  readonly need: readonly Need[];
  /** One line per step. */
  readonly print?: (line: string) => void;
}

/** Resolves when every program is there. `failed_precondition` names all that is missing and cannot be installed by us. */
export async function ensureSystem(options: SystemOptions): Promise<void> {
  const print = options.print ?? (() => undefined);
  const missing = missingPrograms(options.need);
  if (missing.length === 0) return;
  const refused = refusalToInstall(options.need);
  if (refused !== null) throw refusal(refused);
  const names = missing.map(({ program }) => program).join(", ");
  print(`missing: ${names}; running apt-get update`);
  await apt(["update"]);
  const packages = [...new Set([...(await Promise.all(missing.map(choosePackage))), ...extras(missing)])];
  print(`installing ${packages.join(", ")}`);
  await withoutStartingServices(() => apt(["install", "--yes", "--no-install-recommends", ...packages]));
  const still = missingPrograms(options.need).map(({ program }) => program);
  if (still.length > 0)
    throw refusal(`apt-get installed ${packages.join(", ")}, but ${still.join(", ")} did not come with it`);
}

/** Where AppArmor is on, dockerd wants its parser, which apt-get would only recommend. */
function extras(missing: readonly Program[]): readonly string[] {
  const enabled = "/sys/module/apparmor/parameters/enabled";
  const wanted = missing.some(({ program }) => program === "dockerd") && existsSync(enabled);
  return wanted && readFileSync(enabled, "utf8").startsWith("Y") && findProgram("apparmor_parser") === null
    ? ["apparmor"]
    : [];
}

async function choosePackage({ program, packages }: Program): Promise<string> {
  for (const name of packages) {
    const { code, output } = await run("apt-cache", ["policy", name]);
    if (code === 0 && /Candidate: (?!\(none\))/.test(output)) return name;
  }
  throw refusal(
    `this system's package sources have none of ${packages.join(", ")}, which would bring ${program}; add a source that has`,
  );
}

/**
 * Debian starts a service as soon as it is installed, unless policy-rc.d says no. We want the programs, not a second Docker Engine
 * and etcd beside the lab's; and in a container the start would fail and the installation with it.
 */
async function withoutStartingServices(work: () => Promise<void>): Promise<void> {
  if (existsSync(POLICY)) return await work();
  writeFileSync(POLICY, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  try {
    return await work();
  } finally {
    rmSync(POLICY, { force: true });
  }
}

async function apt(args: readonly string[]): Promise<void> {
  const { code, output } = await run("apt-get", ["-o", "DPkg::Lock::Timeout=120", "-q", ...args]);
  if (code === 0) return;
  const last = output.trim().split("\n").slice(-8).join("\n  ");
  throw refusal(`apt-get ${args.join(" ")} exited with ${code}; the end of what it said:\n  ${last}`);
}

function run(program: string, args: readonly string[]): Promise<{ code: number; output: string }> {
  return new Promise((done, fail) => {
    const env = {
      ...process.env,
      PATH: `${process.env["PATH"] ?? ""}:${FOLDERS.join(":")}`,
      DEBIAN_FRONTEND: "noninteractive",
      LC_ALL: "C",
    };
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], env });
    let output = "";
    const collect = (chunk: Buffer): void => {
      output = (output + chunk.toString("utf8")).slice(-64 * 1024);
    };
    child.stdout.on("data", collect);
    child.stderr.on("data", collect);
    child.on("error", (cause) => fail(refusal(`cannot run ${program}: ${cause.message}`, cause)));
    child.on("close", (code) => done({ code: code ?? 1, output }));
  });
}

function refusal(message: string, cause?: unknown): ClusterError {
  return new ClusterError("failed_precondition", message, { cause });
}
