// Which programs we stand on, which of them this machine lacks, and how to get those. Plain JavaScript, because quickstart must be
// able to say it before anything is installed or compiled; packaging/build copies it to dist/ beside the compiled files.
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

export const NEEDS = ["docker", "etcd", "busybox", "iptables", "iproute2", "util-linux", "nftables"];

/** What each need means in programs. Of the packages, the first that this Debian release has is taken. */
const PROGRAMS = {
  // Debian 13 has the client in a package of its own.
  docker: [
    { program: "dockerd", packages: ["docker.io"] },
    { program: "docker", packages: ["docker-cli", "docker.io"] },
  ],
  etcd: [
    { program: "etcd", packages: ["etcd-server"] },
    { program: "etcdctl", packages: ["etcd-client"] },
  ],
  busybox: [{ program: "busybox", packages: ["busybox-static"] }],
  iptables: [{ program: "iptables", packages: ["iptables"] }],
  iproute2: [{ program: "ip", packages: ["iproute2"] }],
  "util-linux": [
    { program: "unshare", packages: ["util-linux"] },
    { program: "nsenter", packages: ["util-linux"] },
  ],
  nftables: [{ program: "nft", packages: ["nftables"] }],
};

const HOW = {
  docker: "Docker Engine: https://docs.docker.com/engine/install/",
  etcd: "etcd 3.4 or newer: https://etcd.io/docs/latest/install/",
  busybox: "a statically linked busybox, on PATH",
  iptables: "iptables",
  iproute2: "iproute2",
  "util-linux": "util-linux",
  nftables: "nftables",
};

export const FOLDERS = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

export function missingPrograms(needs) {
  return needs.flatMap((need) => PROGRAMS[need]).filter(({ program }) => findProgram(program) === null);
}

export function isRoot() {
  return process.getuid?.() === 0;
}

export function isDebian() {
  return existsSync("/etc/debian_version") && findProgram("apt-get") !== null;
}

/** What is missing and how to get it, where it is not for us to install; null where nothing is missing, or we may install it. */
export function refusalToInstall(needs) {
  const missing = missingPrograms(needs);
  if (missing.length === 0) return null;
  const names = missing.map(({ program }) => program).join(", ");
  if (!isDebian()) {
    const how = needs.filter((need) => PROGRAMS[need].some((one) => missing.includes(one))).map((need) => HOW[need]);
    return `missing on this machine: ${names}. Install them with its package manager:\n  ${how.join("\n  ")}`;
  }
  if (isRoot()) return null;
  const packages = [...new Set(missing.map((one) => one.packages.at(-1)))].join(" ");
  return `missing on this machine: ${names}. Run this as root, or:\n  sudo apt-get install --no-install-recommends ${packages}`;
}

/** The sbin folders are searched too: a user's PATH often lacks them. */
export function findProgram(program) {
  for (const dir of [...FOLDERS, ...(process.env.PATH ?? "").split(":")]) {
    const path = join(dir, program);
    if (dir.startsWith("/") && isExecutable(path) && (program !== "busybox" || isStatic(path))) return path;
  }
  return null;
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    // Absent, or not for us to run: either way we cannot use it.
    return false;
  }
}

/** A program that needs a loader names it in its ELF header's neighbourhood: /lib64/ld-linux…, /lib/ld-musl… */
function isStatic(path) {
  return !/\/ld-(linux|musl)/.test(readFileSync(path).subarray(0, 4096).toString("latin1"));
}
