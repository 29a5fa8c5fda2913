// The order of things around the protocol, without a clock, a disk or a network.

export * from "./driver.js";
export * from "./host.js";
