// The door of packaging/lab: several real Docker hosts on one Linux machine. See README.md.
export { DAEMON_NAMES, type DaemonName } from "./daemons.js";
export { BUSYBOX_IMAGE, DEMO_IMAGE } from "./images/catalog.js";
export { type HostStatus, Lab, type LabStatus, PARTS, type Part, type UpOptions } from "./lab.js";
export { type Lock, lock } from "./lock.js";
export type { Cut } from "./network.js";
export { IMAGE_SETS, type ImageSet, type LabOptions, type LabPlan, STORE_KINDS, type StoreKind } from "./options.js";
export { mainProgram, packageRoot } from "./paths.js";
export { type RunOptions, type RunResult, run, runInherited } from "./run.js";
