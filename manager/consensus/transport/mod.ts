// The managers' network: see transport.ts. May import lib, proto, raft-ts and manager/rpc.

export { type Host, removedDetail } from "./greeting.js";
export { type PeerState, type Receiver, raftService, RaftTransport, type TransportOptions } from "./transport.js";
