// `flotilla node promote` and `demote`: a manager beside a node's agent, or none any more. The wish is stored at
// once; the rest is the node's agent's and the managers' to do, and is waited for.

import type { Command } from "commander";
import { sleep } from "../../lib/clock.js";
import { formatDurationMs } from "../../lib/units.js";
import { type NodeState as State, UpdateNodeRequest } from "../../proto/gen/flotilla/control/v1/control.js";
import { NodeRole, NodeState } from "../../proto/gen/flotilla/objects/v1/objects.js";
import type { ControlApi } from "../client/mod.js";
import { type Exit, Failure, exits } from "../exit.js";
import { duration } from "../flags/parsers.js";
import type { Io } from "../io.js";
import { nodeJson } from "../screen/json.js";
import { plain, safeJson } from "../screen/text.js";
import { checkLeaving } from "./cluster/quorum.js";
import { type Cli, addLeaf } from "./leaf.js";

const pollMs = 500;
/** As long as a whole store may take to reach a new manager. */
const timeoutMsDefault = 300_000;

const hostname = ({ node }: State) => node?.description?.hostname ?? "";
const idOf = ({ node }: State) => node?.meta?.id ?? "";

interface Change {
  verb: "promote" | "demote";
  role: NodeRole;
  summary: string;
  description: string;
  /** What is still missing; undefined when it is done. */
  missing(state: State): string | undefined;
  done: string;
  /** Undoes the wish. */
  back: "promote" | "demote";
}

const flags = [
  { long: "detach", short: "d", help: "do not wait" },
  { long: "timeout", value: "DURATION", help: "longest wait, then exit 5 (default 5m)" },
] as const;

const promote: Change = {
  verb: "promote",
  role: NodeRole.MANAGER,
  summary: "make nodes managers too",
  description:
    "Has the nodes' agents start a manager each, and waits until each has a vote: a new manager first learns all that the others know. Three managers may lose one, five two, seven three; an even number adds none.",
  missing({ node, manager }) {
    if (manager?.voter === true) return undefined;
    if (manager !== undefined)
      return manager.lag === 0
        ? "its manager has caught up, and is about to get its vote"
        : `its manager is ${manager.lag === 1 ? "1 entry" : `${manager.lag} entries`} behind`;
    return node?.status?.state === NodeState.READY
      ? "waiting for its agent to start a manager"
      : `its agent is away${node?.status?.message ? ` (${node.status.message})` : ""}: waiting for it to start a manager`;
  },
  done: "is a manager",
  back: "demote",
};

const demote: Change = {
  verb: "demote",
  role: NodeRole.WORKER,
  summary: "make nodes managers no more",
  description:
    "Takes the nodes' managers out for good, one after another, and waits until they are. Refused when the others would be left without a quorum. Tasks stay where they are.",
  missing: ({ manager }) =>
    manager === undefined
      ? undefined
      : `manager ${manager.id} is to be taken out${manager.leader ? "; it leads, and hands over first" : ""}`,
  done: "is no manager any more",
  back: "promote",
};

export function addRoles(parent: Command, cli: Cli): void {
  addRole(parent, cli, promote);
  addRole(parent, cli, demote);
}

function addRole(parent: Command, cli: Cli, change: Change): void {
  const { verb, role, summary, description } = change;
  addLeaf(parent, cli, {
    name: verb,
    args: "NODE [NODES...]",
    complete: "nodes",
    summary,
    description,
    flags,
    examples: [`flotilla node ${verb} h2 h3`, `flotilla node ${verb} --detach h2`],
    async run({ flags, args, json, connect }): Promise<Exit> {
      const timeoutMs = flags.get("timeout", duration) ?? timeoutMsDefault;
      flags.check();
      const api = await connect();
      // One that is not there is found out before any is changed.
      for (const node of args) await api.node(node);
      for (const node of args) {
        if (role === NodeRole.WORKER) await checkDemotion(api, node);
        const asked = await api.updateNode(UpdateNodeRequest.fromPartial({ node, role }));
        const last = flags.has("detach") ? asked : await waitFor(cli.io, api, change, asked, timeoutMs);
        cli.io.out(json ? `${safeJson(nodeJson(last), 2)}\n` : `${plain(hostname(last))}\n`);
      }
      return exits.ok;
    },
  });
}

/** The managers refuse it too; here it is explained by what they know of each other. */
async function checkDemotion(api: ControlApi, name: string): Promise<void> {
  const { manager } = await api.node(name);
  if (manager === undefined) return;
  const status = await api.clusterStatus();
  const leaving = status.managers.find(({ id }) => id === manager.id);
  if (leaving !== undefined) checkLeaving(status, leaving, false);
}

async function waitFor(io: Io, api: ControlApi, change: Change, first: State, timeoutMs: number): Promise<State> {
  const name = plain(hostname(first));
  const { verb, role, done, back } = change;
  const controller = new AbortController();
  const off = io.onStop(() => controller.abort(new DOMException("stopped", "AbortError")));
  const until = io.clock.monotonic() + timeoutMs;
  let said = "";
  try {
    for (let state = first; ; state = await api.node(idOf(first))) {
      const missing = change.missing(state);
      if (missing === undefined) {
        io.err(`${name}: ${done}\n`);
        return state;
      }
      if (missing !== said) io.err(`${name}: ${plain(missing)}\n`);
      said = missing;
      if (state.node?.spec?.role !== role)
        throw new Failure(exits.undone, `${name} was given another role in between`, {
          next: [`flotilla node ${verb} ${name}    # begin again`],
        });
      if (io.clock.monotonic() >= until)
        throw new Failure(
          exits.timeout,
          `${name}: after ${formatDurationMs(timeoutMs)} ${missing}; it goes on by itself`,
          {
            next: ["flotilla cluster status", `flotilla node ${back} ${name}    # take it back`],
          },
        );
      await sleep(io.clock, pollMs, controller.signal);
    }
  } catch (error) {
    if (!controller.signal.aborted) throw error;
    throw new Failure(exits.detached, `detached; ${name} goes on by itself`, {
      next: [`flotilla node inspect --pretty ${name}`, `flotilla node ${back} ${name}    # take it back`],
    });
  } finally {
    off();
  }
}
