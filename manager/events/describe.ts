// The events of one change; none for what no user cares about.

import type { Change, View } from "../store/mod.js";
import { ofCluster } from "./cluster.js";
import { ofNode } from "./node.js";
import { ofRollout, ofService } from "./service.js";
import { ofTask } from "./task.js";
import type { Told } from "./told.js";

export type { Told } from "./told.js";

/** `view` is as the commit left it. */
export function describe(view: View, change: Change): Told[] {
  switch (change.table) {
    case "tasks":
      return ofTask(view, change.before, change.after);
    case "services":
      return ofService(view, change.before, change.after);
    case "nodes":
      return ofNode(change.before, change.after);
    case "rollouts":
      return ofRollout(view, change.before, change.after);
    case "clusters":
      return ofCluster(change.before, change.after);
    case "revisions":
      return [];
    default:
      return change satisfies never;
  }
}
