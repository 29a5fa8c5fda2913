// `flotilla service update` and `plan`.

import type { Command } from "commander";
import { ClusterError } from "../../../lib/errors.js";
import type { PlanServiceResponse } from "../../../proto/gen/flotilla/control/v1/control.js";
import type { ServiceSpec } from "../../../proto/gen/flotilla/objects/v1/objects.js";
import type { ControlApi } from "../../client/mod.js";
import { exits } from "../../exit.js";
import { noTruncFlag } from "../../flags/flag.js";
import { type Draft, applyFlags, emptySpec, flagsOf } from "../../flags/service.js";
import type { Io } from "../../io.js";
import { type Cli, type Given, addLeaf } from "../leaf.js";
import { planFlags, showPlan } from "./plan.js";
import { afterChange, deployFlags, readWait } from "./wait.js";

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
    flags: [...changeFlags, ...planFlags, ...deployFlags],
    examples: [
      "flotilla service update --image nginx:1.28 web",
      "flotilla service update --update-parallelism 2 --update-order start-first --image nginx:1.28 web",
      "flotilla service update --env-add LOG=debug --env-rm OLD --publish-add 8443:443 web",
      "flotilla service update --autoscale min=2,max=10,cpu=60 web",
      "flotilla service update --dry-run --reserve-memory 512m web",
      "flotilla service update --force web",
    ],
    async run(given) {
      const { flags } = given;
      const change = readChange(io, given, "service update");
      const wait = readWait(flags, io);
      flags.check();
      const api = await given.connect();
      if (flags.has("dry-run")) {
        showPlan(io, given, ...(await planned(api, change)));
        return exits.ok;
      }
      const response = await changeSpec(api, change, ({ id, version, spec }) =>
        api.updateService(id, version, spec, change.force),
      );
      return await afterChange(io, given, api, wait, response);
    },
  });
}

export function addPlan(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "plan",
    args: "SERVICE",
    complete: "services",
    summary: "what an update would do, without doing it",
    description:
      "Takes the flags of `service update` and shows what would change, which tasks would be replaced, where the new ones would run and why, and what cannot be had now. Changes nothing and ends with 0. For a service that does not exist yet: service create --dry-run.",
    flags: [...changeFlags, noTruncFlag],
    examples: [
      "flotilla service plan --image nginx:1.28 web",
      "flotilla service plan --constraint-add node.labels.zone==eu --json web",
    ],
    async run(given) {
      const change = readChange(io, given, "service plan");
      given.flags.check();
      const api = await given.connect();
      showPlan(io, given, ...(await planned(api, change)));
      return exits.ok;
    },
  });
}

const changeFlags = [
  ...flagsOf("update"),
  { long: "force", help: "replace the tasks even if nothing changed", group: "Updates:" },
];
/** What the flags ask of a service that is not read yet. */
interface Change {
  service: string;
  force: boolean;
  /** Throws what contradicts the spec that it is made from. */
  apply: (from: ServiceSpec, note: (text: string) => void) => Draft;
  note: (text: string) => void;
}

function readChange(io: Io, { flags, args }: Given, command: string): Change {
  const [service = ""] = args;
  const force = flags.has("force");
  // What is wrong with the flags is wrong whatever the service is: say so before asking anybody.
  applyFlags(emptySpec(), "update", { flags, env: io.env, checkMode: false, note: () => undefined });
  if (!force && !flagsOf("update").some(({ long }) => flags.has(long)))
    flags.report({
      field: command,
      value: service,
      rule: "was given nothing to change",
      fix: "add a flag such as --image, or --force to replace all tasks",
    });
  return {
    service,
    force,
    apply(from, note) {
      const spec = applyFlags(from, "update", { flags, env: io.env, checkMode: true, note });
      flags.check();
      return spec;
    },
    note: (text) => io.err(`note: ${text}\n`),
  };
}

async function planned(api: ControlApi, change: Change): Promise<[PlanServiceResponse, string]> {
  let name = change.service;
  const plan = await changeSpec(api, change, ({ id, version, spec }) => {
    ({ name } = spec);
    return api.planUpdate(id, version, spec, change.force);
  });
  return [plan, name];
}

/** Reads, changes and writes; when somebody wrote in between, again from what they wrote. */
async function changeSpec<T>(
  api: ControlApi,
  { service, apply, note }: Change,
  /** By id: the one that was read, even if another one gets the name. */
  send: (changed: { id: string; version: number; spec: Draft }) => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    const state = await api.service(service);
    const { spec, meta } = state.service ?? {};
    if (spec === undefined || meta === undefined)
      throw new ClusterError(
        "internal",
        "the manager answered without a service; its version may not be this command's",
      );
    try {
      return await send({
        id: meta.id,
        version: meta.version,
        spec: apply(spec, attempt === 1 ? note : () => undefined),
      });
    } catch (error) {
      if (!(error instanceof ClusterError && error.code === "conflict") || attempt > conflictsMax) throw error;
    }
  }
}
