// The Engine over dockerode: the only folder that imports it.
export { type DockerOptions, DockerEngine, socketPath } from "./engine.js";
