// manager/rebalance: moving tasks to where they would be placed today. `planMoves` decides, purely and with the
// scheduler's own placement; `rebalance` is the command, the Rebalancer the policy that clusters may opt in to. Both
// only mark tasks as leaving: replacing them is the orchestrator's. Imports lib, proto, deploy, manager/scheduler,
// manager/rollout and the store.

export { rebalance } from "./command.js";
export { Rebalancer, type RebalancerOptions } from "./controller.js";
export { planMoves, type MovesInput, type MovesPlan, type PlannedMove } from "./moves.js";
