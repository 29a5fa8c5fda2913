// `flotilla service scale`, `rollback` and `rm`.

import type { Command } from "commander";
import { toClusterError } from "../../../lib/errors.js";
import { type Exit, UsageError, exits } from "../../exit.js";
import { replicas, uint32 } from "../../flags/parsers.js";
import { plain, safeJson } from "../../screen/text.js";
import { type Cli, addLeaf } from "../leaf.js";
import { present } from "../../present.js";
import { afterChange, deployFlags, readWait } from "./wait.js";

export function addScale(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "scale",
    args: "SERVICE=REPLICAS [MORE...]",
    complete: "services",
    summary: "change the number of replicas and wait for them",
    flags: deployFlags,
    examples: ["flotilla service scale web=12", "flotilla service scale web=4 api=2"],
    async run(given) {
      const { flags, args } = given;
      const wanted = args.map((text) => {
        const at = text.lastIndexOf("=");
        if (at <= 0) {
          flags.report({
            field: "SERVICE=REPLICAS",
            value: text,
            rule: "must name a service and a number",
            fix: "write for example web=3",
          });
          return { service: text, n: 0 };
        }
        return { service: text.slice(0, at), n: flags.parse(text.slice(0, at), text.slice(at + 1), replicas) ?? 0 };
      });
      const names = wanted.map(({ service }) => service);
      const twice = names.find((name, i) => names.indexOf(name) !== i);
      if (twice !== undefined)
        flags.report({
          field: "SERVICE=REPLICAS",
          value: twice,
          rule: "is named twice",
          fix: "name each service once",
        });
      const wait = readWait(flags, io);
      flags.check();
      const api = await given.connect();
      // A name that is wrong is said before anything is changed.
      if (wanted.length > 1) await Promise.all(wanted.map(({ service }) => api.service(service)));
      // One after the other: each has its own progress. The first that fails ends it, and the others are as they were.
      let exit: Exit = exits.ok;
      for (const { service, n } of wanted)
        exit = await afterChange(io, given, api, wait, await api.scaleService(service, n));
      return exit;
    },
  });
}

export function addRollback(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "rollback",
    args: "SERVICE",
    complete: "services",
    summary: "go back to an earlier revision and wait for it",
    description:
      "Goes back to the revision before the last one with other tasks, or to any with --to. The spec of that revision becomes a new revision.",
    flags: [
      { long: "to", value: "REVISION", help: "number of the revision (see service inspect --pretty)" },
      ...deployFlags,
    ],
    examples: ["flotilla service rollback web", "flotilla service rollback --to 3 web"],
    async run(given) {
      const { flags, args } = given;
      const to = flags.get("to", (text) => {
        const parsed = uint32("3")(text.replace(/^.*@/, ""));
        return "ok" in parsed && parsed.ok > 0
          ? parsed
          : { rule: "must be the number of a revision, from 1", fix: "write for example 3" };
      });
      const wait = readWait(flags, io);
      flags.check();
      const api = await given.connect();
      return await afterChange(io, given, api, wait, await api.rollbackService(args[0] ?? "", to ?? 0), {
        isRollback: true,
      });
    },
  });
}

export function addRm(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "rm",
    args: "SERVICE [SERVICES...]",
    complete: "services",
    summary: "remove services",
    description: "Removes services. Their tasks are taken out of the routes and stopped; this does not wait for it.",
    examples: ["flotilla service rm web", "flotilla service rm web api"],
    async run({ args, json, connect }) {
      if (new Set(args).size < args.length)
        throw new UsageError([
          { field: "SERVICE", value: args.join(" "), rule: "names a service twice", fix: "name each service once" },
        ]);
      const api = await connect();
      let exit: Exit = exits.ok;
      const removed: string[] = [];
      // All that can go goes; each that cannot is said.
      for (const service of args) {
        try {
          removed.push(await api.removeService(service));
          if (!json) io.out(`${plain(removed.at(-1) ?? service)}\n`);
        } catch (error) {
          const cluster = toClusterError(error);
          if (cluster.code !== "not_found" && cluster.code !== "failed_precondition") throw error;
          io.err(present(cluster, "flotilla service rm").text);
          exit = exits.error;
        }
      }
      if (json) io.out(`${safeJson({ removed }, 2)}\n`);
      return exit;
    },
  });
}
