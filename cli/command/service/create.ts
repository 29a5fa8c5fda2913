// `flotilla service create` and `update`.

import type { Command } from "commander";
import { ClusterError } from "../../../lib/errors.js";
import type { ServiceResponse } from "../../../proto/gen/flotilla/control/v1/control.js";
import type { ControlApi } from "../../client/mod.js";
import { type Draft, applyFlags, emptySpec, flagsOf } from "../../flags/service.js";
import { nonEmpty } from "../../flags/parsers.js";
import { UsageError } from "../../exit.js";
import { type Cli, addLeaf } from "../leaf.js";
import { afterChange, deployFlags, readWait } from "./wait.js";

export function addCreate(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "create",
    args: "IMAGE [ARGS...]",
    summary: "create a service and wait until it runs",
    description:
      "Creates a service, shows how its tasks come up, and ends when all of them have been ready for the update's monitor time.",
    flags: [...flagsOf("create"), ...deployFlags],
    passThrough: true,
    examples: [
      "flotilla service create --name web --replicas 6 --publish 8080:80 nginx:1.27",
      "flotilla service create --name api --expose 9000 -e LOG=debug --reserve-memory 256m registry.local/api:7",
      "flotilla service create --name db --constraint node.labels.disk==ssd --mount src=db,dst=/var/lib/db postgres:16",
    ],
    async run(given) {
      const { flags, args } = given;
      const [image = "", ...command] = args;
      const spec = applyFlags(emptySpec(), "create", { flags, env: io.env, note: (text) => io.err(`note: ${text}\n`) });
      spec.task.container.image = flags.parse("IMAGE", image, nonEmpty) ?? "";
      spec.task.container.args = command;
      if (!flags.has("name"))
        flags.report({ field: "--name", value: "", rule: "is needed", fix: "write for example --name web" });
      const wait = readWait(flags, io);
      flags.check();
      const api = await given.connect();
      return await afterChange(io, given, api, wait, await api.createService(spec), { created: true });
    },
  });
}

/** Times that an update is made anew from what somebody else just wrote. */
const conflictsMax = 3;

export function addUpdate(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "update",
    args: "SERVICE",
    complete: "services",
    summary: "change a service and wait until the change is everywhere",
    description:
      "Changes what the flags name and leaves the rest. Tasks are replaced only when something that concerns them changed, as the service's --update-… settings say.",
    flags: [
      ...flagsOf("update"),
      { long: "force", help: "replace the tasks even if nothing changed", group: "Updates:" },
      ...deployFlags,
    ],
    examples: [
      "flotilla service update --image nginx:1.28 web",
      "flotilla service update --update-parallelism 2 --update-order start-first --image nginx:1.28 web",
      "flotilla service update --env-add LOG=debug --env-rm OLD --publish-add 8443:443 web",
      "flotilla service update --force web",
    ],
    async run(given) {
      const { flags, args } = given;
      const [service = ""] = args;
      const force = flags.has("force");
      const change = (from: Parameters<typeof applyFlags>[0], note: (text: string) => void): Draft =>
        applyFlags(from, "update", { flags, env: io.env, note });
      // What is wrong with the flags is wrong whatever the service is: say so before asking anybody.
      change(emptySpec(), () => undefined);
      const wait = readWait(flags, io);
      flags.check();
      if (!force && !flagsOf("update").some(({ long }) => flags.has(long)))
        throw new UsageError([
          {
            field: "service update",
            value: service,
            rule: "was given nothing to change",
            fix: "add a flag such as --image, or --force to replace all tasks",
          },
        ]);
      const api = await given.connect();
      const response = await changeSpec(api, service, force, change, (text) => io.err(`note: ${text}\n`));
      return await afterChange(io, given, api, wait, response);
    },
  });
}

/** Reads, changes and writes; when somebody wrote in between, again from what they wrote. */
async function changeSpec(
  api: ControlApi,
  service: string,
  force: boolean,
  change: (from: Parameters<typeof applyFlags>[0], note: (text: string) => void) => Draft,
  note: (text: string) => void,
): Promise<ServiceResponse> {
  for (let attempt = 1; ; attempt += 1) {
    const state = await api.service(service);
    const { spec, meta } = state.service ?? {};
    if (spec === undefined || meta === undefined)
      throw new ClusterError(
        "internal",
        "the manager answered without a service; its version may not be this command's",
      );
    try {
      // By id: the one that was read, even if another one gets the name.
      return await api.updateService(
        meta.id,
        meta.version,
        change(spec, attempt === 1 ? note : () => undefined),
        force,
      );
    } catch (error) {
      if (!(error instanceof ClusterError && error.code === "conflict") || attempt > conflictsMax) throw error;
    }
  }
}
