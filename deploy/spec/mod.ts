// deploy/spec: what a service spec may say. Checking and defaults, image references, constraints and affinities, cron
// schedules, template hashes, differences.
// Imports lib and proto; pure, and the same for the API, the CLI and the scheduler.

export { type CheckedSpec, checkServiceSpec } from "./check.js";
export { dueTimes, nextDue, type Schedule } from "./cron.js";
export { findCycle } from "./depends.js";
export { diffSpecs, type SpecChange } from "./diff.js";
export { checkReplicas, isGlobal, isJob, modeWord, runSize } from "./mode.js";
export {
  affinityWeightMax,
  type AffinityRule,
  checkAffinityWeight,
  type ParsedAffinity,
  parseAffinity,
} from "./affinity.js";
export {
  type Constraint,
  type ConstraintKey,
  type ConstraintNode,
  type ConstraintOperator,
  labelOf,
  labelsOf,
  matchConstraint,
  type ParsedConstraint,
  parseConstraint,
} from "./constraint.js";
export { type Settings, settingsOf } from "./cluster.js";
export { type ImageReference, type ParsedImage, parseImage } from "./image.js";
export { reservedLabelPrefix } from "./labels.js";
export { limits } from "./limits.js";
export { Problems } from "./problems.js";
export { closest } from "./suggest.js";
export { equalPlacement, equalSpecs, portTemplate, templateHash } from "./template.js";
export { isTimeZone } from "./zone.js";
export { branchOf, type ParsedPreference, parsePreference, type Preference } from "./preference.js";
export { allModes } from "./words.js";
