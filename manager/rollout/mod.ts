// manager/rollout: how services move from one revision to another: the records, and what users do to them. The pace
// of a rollout is deploy/strategy's; bringing tasks about is manager/orchestrator's. Imports lib, proto, deploy and
// the store's types; pure.

export {
  advance,
  configInForce,
  doneBefore,
  isUnderWay,
  type Making,
  newMeta,
  refuseRemoving,
  revisionNumbered,
  type ServiceChange,
  type ServiceParts,
  withReplicas,
} from "./change.js";
export { applySteps, type Step } from "./step.js";
export {
  abortRollout,
  pauseRollout,
  resumeRollout,
  rollbackService,
  rolloutStateName,
  undoRollout,
} from "./verbs.js";
