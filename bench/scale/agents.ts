// A process full of simulated agents. argv[2]: what `start` in fleet.ts says, as JSON. Its parent asks how they are,
// and it ends with its parent.

import { setMaxListeners } from "node:events";
import { SimulatedAgent } from "./agent.js";
import { readTasksOnly } from "./assignments.js";
import type { AgentsFigures, AgentsPlan } from "./fleet.js";

const plan = JSON.parse(process.argv[2] ?? "") as AgentsPlan;
if (!plan.observes) readTasksOnly();
const counts = { status: 0, assignment: 0 };
/** Of the tasks that began to run since the parent asked last: by id, when. */
let begun = new Map<string, { createdAtMs: number; arrivedAtMs: number; runningAtMs: number }>();
/** When a route first told that the task is ready: only one agent of all listens. */
let routed = new Map<string, number>();

const agents = Array.from(
  { length: plan.count },
  (_, i) =>
    new SimulatedAgent({
      number: plan.first + i,
      managers: plan.managers,
      labels: plan.labels,
      onRunning: ({ taskId, ...times }) => void begun.set(taskId, times),
      onChange: (kind) => void (counts[kind] += 1),
      ...(plan.observes && i === 0
        ? {
            onRoute: ({ endpoints }) => {
              const nowMs = Date.now();
              for (const { taskId } of endpoints) if (!routed.has(taskId)) routed.set(taskId, nowMs);
            },
          }
        : {}),
    }),
);

process.on("message", (question: "figures" | "times") => {
  const figures: AgentsFigures = {
    connected: agents.filter(({ connected }) => connected).length,
    running: agents.reduce((sum, { running }) => sum + running, 0),
    statuses: counts.status,
    assignments: counts.assignment,
    begun: question === "times" ? [...begun] : [],
    routed: question === "times" ? [...routed] : [],
  };
  if (question === "times") [begun, routed] = [new Map(), new Map()];
  process.send?.(figures);
});
process.on("disconnect", () => process.exit(0));

// Hosts of one cluster are not switched on in the same millisecond.
const signal = new AbortController().signal;
setMaxListeners(0, signal);
const everyMs = plan.startOverMs / plan.count;
for (const agent of agents) {
  void agent.run(signal);
  await new Promise((resolve) => setTimeout(resolve, everyMs));
}
