// The container engine as the agent sees it.
export type {
  ContainerRequest,
  ContainerState,
  ContainerUse,
  Engine,
  EngineEvent,
  EngineInfo,
  EngineLogLine,
  LogRequest,
} from "./engine.js";
export { DockerEngine, type DockerOptions } from "./docker/mod.js";
