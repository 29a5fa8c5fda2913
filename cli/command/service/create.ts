// `flotilla service create`.

import type { Command } from "commander";
import { exits } from "../../exit.js";
import { nonEmpty } from "../../flags/parsers.js";
import { applyFlags, emptySpec, flagsOf } from "../../flags/service.js";
import { type Cli, addLeaf } from "../leaf.js";
import { planFlags, showPlan } from "./plan.js";
import { afterChange, deployFlags, readWait } from "./wait.js";

export function addCreate(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "create",
    args: "IMAGE [ARGS...]",
    summary: "create a service and wait until it runs",
    description:
      "Creates a service, shows how its tasks come up, and ends when all of them have been ready for the update's monitor time; of a job, when its run has ended. What a schedule begins is not waited for.",
    flags: [...flagsOf("create"), ...planFlags, ...deployFlags],
    passThrough: true,
    examples: [
      "flotilla service create --name web --replicas 6 --publish 8080:80 nginx:1.27",
      "flotilla service create --name api --expose 9000 -e LOG=debug --reserve-memory 256m registry.local/api:7",
      "flotilla service create --name agent --mode global --constraint node.platform.os==linux example/agent:2",
      "flotilla service create --name import --mode replicated-job --completions 20 --max-concurrent 4 example/import:1",
      "flotilla service create --name report --cron '30 6 * * 1-5' --cron-time-zone Europe/Paris example/report:1",
      "flotilla service create --dry-run --name web --replicas 6 --placement-pref spread=node.labels.zone nginx:1.27",
      "flotilla service create --name db --constraint node.labels.disk==ssd --mount src=db,dst=/var/lib/db postgres:16",
    ],
    async run(given) {
      const { flags, args } = given;
      const [image = "", ...command] = args;
      const spec = applyFlags(emptySpec(), "create", {
        flags,
        env: io.env,
        checkMode: true,
        note: (text) => io.err(`note: ${text}\n`),
      });
      spec.task.container.image = flags.parse("IMAGE", image, nonEmpty) ?? "";
      spec.task.container.args = command;
      if (!flags.has("name"))
        flags.report({ field: "--name", value: "", rule: "is needed", fix: "write for example --name web" });
      const wait = readWait(flags, io);
      flags.check();
      const api = await given.connect();
      if (flags.has("dry-run")) {
        showPlan(io, given, await api.planCreate(spec), spec.name);
        return exits.ok;
      }
      return await afterChange(io, given, api, wait, await api.createService(spec), { created: true });
    },
  });
}
