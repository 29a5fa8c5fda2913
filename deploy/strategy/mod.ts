// deploy/strategy: pure planners of rollouts. Imports lib and proto, no I/O; time is an argument.

export { type Budget, budgetOf } from "./budget.js";
export { type Convergence, type ConvergenceInput, isConverged } from "./converged.js";
export { type Eligibility, eligibilityOf, placementOf } from "./eligible.js";
export { goesOn, newestRun } from "./runs.js";
export { planRolling, type RollingInput, type RollingPlan, type RollingSlot } from "./rolling.js";
export {
  hasEnded,
  isLost,
  isReady,
  isReplaced,
  isWanted,
  newestFirst,
  stateName,
  whatHappened,
} from "./tasks.js";
