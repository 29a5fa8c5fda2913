// The agent's side of the dispatcher's calls. May import lib, proto and the types of agent/engine.
export type { LogSource } from "./logs.js";
export { ManagerSession, type SessionOptions } from "./session.js";
