// The images that every lab's engine gets without a registry: a busybox, and a web server to deploy, update and break. Built from
// what the machine has (Debian's static busybox, the node that runs this) and kept as archives in the lab's folder.
//
//   flotilla/busybox:latest    shell, wget, nslookup, httpd …; sleeps until stopped
//   flotilla/demo:1 :2 :3      answers `GET /` with its hostname and version, shuts down gracefully (demo/server.mjs)
//   flotilla/demo:checked      the same with a health check
//   flotilla/demo:sick         its health check never passes
//   flotilla/demo:broken       prints a few lines and exits with 1
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, realpathSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ClusterError } from "../../../lib/mod.js";
import { SYSTEM_PATH } from "../host.js";
import type { ImageSet } from "../options.js";
import { imageDir, packageRoot } from "../paths.js";
import { mustRun, run } from "../run.js";
import { type Image, type ImageConfig, type ImageIds, type Layer, writeArchive } from "./archive.js";
import { type TarEntry, fileEntry, textEntry } from "./tar.js";

export const BUSYBOX_IMAGE = "flotilla/busybox:latest";
export const DEMO_IMAGE = "flotilla/demo";

export interface Archive {
  readonly file: string;
  readonly ids: ImageIds;
}

/** Changes whenever the code below would make other images from the same inputs. */
const RECIPE = 1;
const SECOND_NS = 1_000_000_000;
const PATH_ENV = "PATH=/usr/local/bin:/usr/bin:/bin";
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64", arm: "arm" };

/** The archive of the given images, from the lab's folder where a former `up` made it already. */
export async function buildImages(lab: string, sets: readonly ImageSet[]): Promise<Archive> {
  const busybox = await findBusybox();
  const server = join(packageRoot(), "packaging", "lab", "demo", "server.mjs");
  const inputs = [busybox, ...(sets.includes("demo") ? [process.execPath, server] : [])].map((file) => {
    const { size, mtimeMs } = statSync(file);
    return [file, size, mtimeMs];
  });
  const key = createHash("sha256")
    .update(JSON.stringify([RECIPE, sets, inputs]))
    .digest("hex")
    .slice(0, 12);
  mkdirSync(imageDir(lab), { recursive: true });
  const file = join(imageDir(lab), `${sets.join("-")}-${key}.tar`);
  const idsFile = `${file}.json`;
  if (existsSync(file) && existsSync(idsFile))
    return { file, ids: JSON.parse(readFileSync(idsFile, "utf8")) as ImageIds };
  const ids = await writeArchive(
    file,
    await images(sets, busybox, server),
    ARCHITECTURES[process.arch] ?? process.arch,
  );
  writeFileSync(idsFile, JSON.stringify(ids));
  return { file, ids };
}

async function images(sets: readonly ImageSet[], busybox: string, server: string): Promise<readonly Image[]> {
  const base = await busyboxLayer(busybox);
  const made: Image[] = [];
  if (sets.includes("busybox")) {
    made.push({
      tag: BUSYBOX_IMAGE,
      layers: [base],
      config: { Cmd: ["/bin/sleep", "2147483647"], Env: [PATH_ENV], StopSignal: "SIGKILL" },
    });
  }
  if (sets.includes("demo")) {
    const runtime = await runtimeLayer();
    const app: Layer = {
      name: "demo",
      entries: [{ kind: "folder", path: "app", mode: 0o755 }, fileEntry("app/server.mjs", server, 0o644)],
    };
    const demo = (tag: string, version: string, extra: ImageConfig = {}): Image => ({
      tag: `${DEMO_IMAGE}:${tag}`,
      layers: [base, runtime, app],
      config: {
        Env: [PATH_ENV, `DEMO_VERSION=${version}`],
        Cmd: ["/usr/local/bin/node", "/app/server.mjs"],
        ExposedPorts: { "80/tcp": {} },
        ...extra,
      },
    });
    const check = (path: string): ImageConfig => ({
      Healthcheck: {
        Test: ["CMD", "/bin/wget", "-q", "-O", "/dev/null", `http://127.0.0.1${path}`],
        Interval: SECOND_NS,
        Timeout: SECOND_NS,
        Retries: 3,
      },
    });
    made.push(demo("1", "1"), demo("2", "2"), demo("3", "3"));
    made.push(
      demo("checked", "checked", check("/healthz")),
      demo("sick", "sick", check("/sick")),
      demo("broken", "broken"),
    );
  }
  return made;
}

async function busyboxLayer(busybox: string): Promise<Layer> {
  const applets = (await mustRun(busybox, ["--list"]))
    .split("\n")
    .filter((name) => /^[\w.[\]-]+$/.test(name) && name !== "busybox");
  const folders = ["bin", "etc", "root", "usr", "usr/bin", "usr/local", "usr/local/bin"].map(
    (path): TarEntry => ({ kind: "folder", path, mode: 0o755 }),
  );
  return {
    name: "busybox",
    entries: [
      ...folders,
      { kind: "folder", path: "tmp", mode: 0o1777 },
      fileEntry("bin/busybox", busybox),
      ...applets.sort().map((name): TarEntry => ({ kind: "link", path: `bin/${name}`, target: "busybox" })),
      textEntry("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
      textEntry("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
      textEntry("etc/nsswitch.conf", "hosts: files dns\n"),
    ],
  };
}

/** Our own node, with the shared libraries that ldd names, each at the path where the loader looks for it. */
async function runtimeLayer(): Promise<Layer> {
  const node = realpathSync(process.execPath);
  const listed = await run("ldd", [node]);
  const libraries =
    listed.code === 0 ? [...listed.stdout.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? "") : [];
  // The resolver's plug-ins are opened by name at run time, so ldd does not list them.
  const folder = libraries.find((path) => path.endsWith("/libc.so.6"))?.replace(/\/libc\.so\.6$/, "");
  const plugins =
    folder === undefined
      ? []
      : ["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"]
          .map((name) => join(folder, name))
          .filter((path) => existsSync(path));
  const files = [...new Set([...libraries, ...plugins])].sort();
  const folders = new Set(files.flatMap((path) => parents(path.slice(1))));
  return {
    name: "node",
    entries: [
      ...[...folders].sort().map((path): TarEntry => ({ kind: "folder", path, mode: 0o755 })),
      ...files.map((path) => fileEntry(path.slice(1), realpathSync(path))),
      fileEntry("usr/local/bin/node", node),
    ],
  };
}

function parents(path: string): readonly string[] {
  const parts = path.split("/").slice(0, -1);
  return parts.map((_, i) => parts.slice(0, i + 1).join("/"));
}

/** A busybox that needs no libraries, for it is alone in its image. */
async function findBusybox(): Promise<string> {
  for (const dir of SYSTEM_PATH.split(":")) {
    const path = join(dir, "busybox");
    if (existsSync(path) && (await run("ldd", [path])).code !== 0) return realpathSync(path);
  }
  throw new ClusterError(
    "failed_precondition",
    "no static busybox on this machine; install it: apt-get install busybox-static",
  );
}
