// A manager beside the agent, on nodes that were promoted. The agent starts it and keeps it; it outlives the agent.

export { type ManagerKeeperOptions, ManagerKeeper } from "./keeper.js";
