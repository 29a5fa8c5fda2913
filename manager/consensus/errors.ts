// What raft-ts says, in the words of the rest of the project.

import { RaftError } from "raft-ts/node";
import { ClusterError } from "../../lib/mod.js";

/** This manager does not lead; `leader` is the address of who does, if it is known. */
export function notLeader(leader: string | undefined): ClusterError {
  return leader === undefined
    ? new ClusterError("not_leader", "the managers have no leader right now: try again in a moment")
    : new ClusterError("not_leader", `this manager does not lead; ${leader} does`, { details: { leader } });
}

/** `addressOf` finds a member's address. Anything but a RaftError is passed on as it is. */
export function fromRaftError(thrown: unknown, addressOf: (id: number) => string | undefined): unknown {
  if (!(thrown instanceof RaftError)) return thrown;
  const options = { cause: thrown };
  switch (thrown.code) {
    case "not-leader":
      return notLeader(thrown.lead === 0 ? undefined : addressOf(thrown.lead));
    case "busy":
      return new ClusterError("unavailable", `not done, try again: ${thrown.message}`, options);
    case "disk-full":
      return new ClusterError("resource_exhausted", `the leader's disk is full: ${thrown.message}`, options);
    case "refused":
      return new ClusterError("failed_precondition", thrown.message, options);
    case "unknown":
      return new ClusterError("unknown_outcome", `it may or may not have been done: ${thrown.message}`, options);
    case "no-quorum":
      return new ClusterError("unavailable", `no quorum of managers confirms it: ${thrown.message}`, options);
    case "closed":
      return new ClusterError("unavailable", "this manager is stopping", options);
  }
}

/** What the system said, without gRPC's frame around it. */
export function wordsOf(message: string): string {
  return message
    .replace(/^No connection established\. Last error: (?:Error: )?/, "")
    .replace(/\. Resolution note: *$/, "");
}
