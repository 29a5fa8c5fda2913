// npm run quickstart [-- --once]: see README.md. Everything that may be refused is refused here, before anything is changed.
import { ensureBuilt } from "../build/ensure-built.mjs";
import { isRoot, refusalToInstall } from "../setup/programs.mjs";

const NEED = ["docker", "busybox", "iptables", "iproute2", "util-linux"];

const HELP = `npm run quickstart [-- --once]

Brings up a cluster of three real Docker hosts on this machine, as network namespaces with an engine, a manager and an agent each;
deploys a replicated service; reaches it by name and on every host; updates it under load; kills the manager that leads, under load;
and stays until Ctrl-C, which takes it all down.

  --once   check everything and leave: exit code 0 only if all of it was seen, 1 if not
  --help   this

Needs Linux, Node.js 20.11 or newer, and root. Missing programs (Docker Engine, busybox) are installed with apt-get on Debian
and Ubuntu; elsewhere it says what is missing. It uses the lab named quickstart; what a killed run left of it is removed first.
Other labs, your contexts and a Docker Engine that you run are not touched.
`;

function readArguments(args) {
  const unknown = args.filter((arg) => !["--once", "--help", "-h"].includes(arg));
  if (unknown.length > 0)
    return { error: `quickstart: ${JSON.stringify(unknown[0])} is not an option; there are --once and --help` };
  return { help: args.includes("--help") || args.includes("-h"), once: args.includes("--once") };
}

/** Everything in the way, each with its cure. */
function obstacles() {
  if (process.platform !== "linux")
    return [
      `needs Linux, for network namespaces and cgroups; this is ${process.platform}. Run it in a Linux virtual machine`,
    ];
  const programs = refusalToInstall(NEED);
  const root = isRoot() ? [] : ["needs root, for namespaces and Docker Engines: sudo npm run quickstart"];
  return programs === null ? root : [...root, programs];
}

async function main() {
  const { error, help, once } = readArguments(process.argv.slice(2));
  if (error !== undefined) {
    console.error(error);
    return 125;
  }
  if (help) {
    process.stdout.write(HELP);
    return 0;
  }
  const inTheWay = obstacles();
  for (const obstacle of inTheWay) console.error(`quickstart: ${obstacle}`);
  if (inTheWay.length > 0) return 1;
  ensureBuilt();
  const { quickstart } = await import("../../dist/packaging/quickstart/main.js");
  return await quickstart({ once, need: NEED });
}

try {
  process.exitCode = await main();
} catch (failure) {
  console.error(`quickstart: ${failure.message}`);
  process.exitCode = 1;
}
