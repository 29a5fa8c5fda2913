// Why a task is where and how it is, as `task why` shows it.

import type { ExplainTaskResponse, NodeVerdict } from "../../proto/gen/flotilla/control/v1/control.js";
import { taskJson } from "./json.js";
import { type Column, renderTable } from "./table.js";
import { taskName } from "./task.js";
import { plain } from "./text.js";
import { ago, iso } from "./time.js";

const verdictColumns: Column<NodeVerdict>[] = [
  { key: "Node", header: "NODE", get: ({ nodeName, nodeId }) => (nodeName === "" ? nodeId : nodeName) },
  { key: "Fits", header: "FITS", get: ({ fits }) => (fits ? "yes" : "no") },
  { key: "Reason", header: "REASON", get: ({ reason }) => reason },
];

export function explainText(explained: ExplainTaskResponse, nowMs: number): string {
  const { task, nodeName, summary, steps, nodes, advice } = explained;
  const where = nodeName === "" ? "no node" : nodeName;
  const id = task?.meta?.id ?? "";
  const parts = [
    `${plain(task === undefined ? "" : taskName(task))} (${id}${task !== undefined && task.run > 0 ? `, run ${task.run}` : ""}, ${plain(where)})\n${plain(summary)}\n`,
  ];
  if (steps.length > 0) {
    const rows = steps.map(({ atMs, text }) => ({ at: `${iso(atMs)} (${ago(atMs, nowMs)})`, text }));
    parts.push(
      renderTable(
        [
          { key: "At", header: "WHEN", get: (row) => row.at },
          { key: "Text", header: "WHAT", get: (row) => row.text },
        ],
        rows,
      ),
    );
  }
  if (nodes.length > 0) parts.push(renderTable(verdictColumns, nodes));
  if (advice.length > 0) parts.push(advice.map((line) => `advice: ${plain(line)}\n`).join(""));
  return parts.join("\n");
}

export function explainJson({ task, nodeName, summary, steps, nodes, advice }: ExplainTaskResponse) {
  return {
    task: task === undefined ? null : taskJson(task, nodeName),
    summary,
    steps: steps.map(({ atMs, text }) => ({ at: iso(atMs), text })),
    nodes: nodes.map(({ nodeId, nodeName, fits, reason }) => ({ node: nodeName, nodeId, fits, reason })),
    advice,
  };
}
