// manager/nodes: whether nodes are there. judge.ts says so, purely; the monitor is the loop around it. Imports lib,
// proto, deploy/spec, the dispatcher's sessions and the store.

export { brakeMessage, judgeNodes, type Judgement, type NodeSighting, type Verdict, type Watch } from "./judge.js";
export { NodeMonitor, type NodeMonitorOptions, type Sightings } from "./monitor.js";
