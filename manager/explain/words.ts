// Small phrases that several sentences share.

import { formatDurationMs } from "../../lib/mod.js";
import type { Task } from "../../proto/mod.js";
import type { View } from "../store/mod.js";

export function hostnameOf(view: View, nodeId: string): string {
  return view.nodes.get(nodeId)?.description.hostname ?? "";
}

/** Whole seconds are enough for people. */
export function span(ms: number): string {
  return formatDurationMs(Math.max(0, Math.round(ms / 1000)) * 1000);
}

/** "exit code 1", "out of memory" or ""; with `before` in front where there is anything. */
export function exitOf({ status: { container } }: Task, before = ""): string {
  if (container === undefined) return "";
  if (container.oomKilled) return `${before}out of memory`;
  return container.exitCode === undefined ? "" : `${before}exit code ${container.exitCode}`;
}
