// What each node lacks for a task that has none: asked of the scheduler itself, node by node.

import { needsNode, place } from "../scheduler/mod.js";
import type { NodeVerdict } from "../../proto/gen/flotilla/control/v1/control.js";
import { placeInput } from "./foresight.js";
import type { Scene } from "./explain.js";

/** Those that fit first, then by name. */
export function verdictsOf({ view, task, now }: Scene): NodeVerdict[] {
  if (!needsNode(task)) return [];
  const input = placeInput(view, now, [task]);
  return [...view.nodes.values()]
    .map((node): NodeVerdict => {
      const { assigned, unplaced } = place({ ...input, nodes: [node] });
      const fits = assigned.length > 0;
      const message = unplaced[0]?.message ?? "";
      return {
        nodeId: node.meta.id,
        nodeName: node.description.hostname,
        fits,
        reason: fits ? "fits" : message.replace(/^no suitable node \(1 node\): 1 /, ""),
      };
    })
    .sort((a, b) => Number(b.fits) - Number(a.fits) || (a.nodeName < b.nodeName ? -1 : 1));
}
