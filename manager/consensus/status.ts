// What there is to say of the managers, from what one of them knows.

import type { NodeStatus } from "raft-ts/node";
import type { ClusterStatus, ManagerStatus } from "../../proto/gen/flotilla/control/v1/control.js";
import type { Member } from "./consensus.js";
import type { Identity } from "./identity.js";
import type { Members } from "./members.js";
import type { PeerState } from "./transport/mod.js";

export interface StatusParts {
  identity: Identity;
  members: Members;
  node: NodeStatus;
  peers: readonly PeerState[];
  health: { ready: boolean; message: string };
}

/** The store's revision is added by who knows it. */
export function clusterStatus({ identity, members, node, peers, health }: StatusParts): ClusterStatus {
  const leads = node.role === "leader";
  const managers = members.all().map((member): ManagerStatus => {
    const { id, name, address } = member;
    const isSelf = id === identity.memberId;
    const progress = node.peers.find((one) => one.id === id);
    const peer = peers.find((one) => one.id === id);
    const match = isSelf ? (leads ? node.lastIndex : node.applied) : (progress?.match ?? 0);
    return {
      id,
      name,
      address,
      voter: members.isVoter(id),
      leader: id === node.lead,
      // Who does not lead knows only who is connected.
      reachable: isSelf || (leads ? peer?.heard === true : peer?.connected === true),
      replication: leads ? (isSelf ? "replicate" : (progress?.state ?? "")) : "",
      matchIndex: match,
      lag: leads ? Math.max(0, node.lastIndex - match) : isSelf ? Math.max(0, node.commit - node.applied) : 0,
    };
  });
  return {
    clusterId: identity.clusterId,
    cluster: identity.cluster,
    store: identity.store,
    epoch: identity.epoch,
    term: node.term,
    leaderId: node.lead,
    commitIndex: node.commit,
    appliedIndex: node.applied,
    revision: 0,
    managers,
    writable: health.ready,
    message: health.ready ? "" : health.message,
    answeredBy: identity.memberId,
  };
}

/** "1 of 3 managers reachable, and 2 are needed; h2 (10.0.0.2:7400): connect ECONNREFUSED". */
export function reachableIn(self: Member, members: Members, peers: readonly PeerState[]): string {
  const voters = members.confState.voters;
  const connected = new Set([self.id, ...peers.filter((peer) => peer.connected).map(({ id }) => id)]);
  const reached = voters.filter((id) => connected.has(id)).length;
  const missing = voters
    .filter((id) => !connected.has(id))
    .map((id) => {
      const member = members.get(id);
      const problem = peers.find((peer) => peer.id === id)?.problem ?? "where it is, is not known here";
      return `${member === undefined ? `manager ${id}` : `${member.name} (${member.address})`}: ${problem}`;
    });
  const needed = Math.floor(voters.length / 2) + 1;
  return `${reached} of ${voters.length} voting managers reachable, ${needed} are needed${missing.length === 0 ? "" : `; ${missing.join("; ")}`}`;
}
