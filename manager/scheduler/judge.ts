// What each node has to say to one task: for people, who ask why it is where it is, or nowhere.

import type { Node, PortSpec, Task, TaskSpec } from "../../proto/mod.js";
import { Board } from "./board.js";
import { demandOf } from "./demand.js";
import { describeMiss, Filter } from "./filter.js";
import { NodeIndex } from "./nodes.js";
import { reservedShare } from "./ranking.js";
import type { UsageView } from "./usage.js";

export interface JudgeInput {
  /** A stored task, or what it would be. */
  task: Pick<Task, "serviceId" | "serviceName" | "onlyNodeId">;
  spec: TaskSpec;
  ports?: readonly PortSpec[];
  nodes: Iterable<Node> | NodeIndex;
  usage: UsageView;
  serviceByName?: (name: string) => { meta: { id: string } } | undefined;
}

export interface Verdict {
  nodeId: string;
  nodeName: string;
  fits: boolean;
  /** In words, also when it fits: what is there already. */
  reason: string;
}

/** One verdict per node, those that fit first, then by name. */
export function judge({ task, spec, ports, nodes, usage, serviceByName }: JudgeInput): Verdict[] {
  const index = nodes instanceof NodeIndex ? nodes : new NodeIndex(nodes);
  const board = new Board({ index, usage, serviceIdOf: (name) => serviceByName?.(name)?.meta.id });
  const filter = new Filter(board, demandOf(spec, ports), task);
  const verdicts = index.nodes.map(({ meta, description }, number) => {
    const about = { nodeId: meta.id, nodeName: description.hostname };
    if (task.onlyNodeId !== "" && task.onlyNodeId !== meta.id)
      return { ...about, fits: false, reason: "not the node that the task belongs to" };
    const miss = filter.miss(number);
    if (miss !== undefined) return { ...about, fits: false, reason: describeMiss(miss) };
    const count = filter.counts[number] ?? 0;
    const percent = Math.round(reservedShare(board, number) * 100);
    return {
      ...about,
      fits: true,
      reason: `fits: ${count} ${count === 1 ? "task" : "tasks"} of the service there, ${percent} % reserved`,
    };
  });
  return verdicts.sort((a, b) => Number(b.fits) - Number(a.fits) || compareNames(a, b));
}

function compareNames(a: Verdict, b: Verdict): number {
  if (a.nodeName !== b.nodeName) return a.nodeName < b.nodeName ? -1 : 1;
  return a.nodeId < b.nodeId ? -1 : 1;
}
