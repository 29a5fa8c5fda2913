// The package's door: the pure core. The driver with its write-ahead log for Node.js is "raft-ts/node".

export * from "./core/mod.js";
