// For tests of the command line: managers as their leader would tell of them.

import { Cluster } from "../../../proto/gen/flotilla/objects/v1/objects.js";
import { ClusterStatus, ManagerStatus } from "../../../proto/gen/flotilla/control/v1/control.js";

/** Manager `h<id>`, a voter that is up to date unless told otherwise. */
export function manager(id: number, parts: Partial<ManagerStatus> = {}): ManagerStatus {
  return ManagerStatus.fromPartial({
    id,
    name: `h${id}`,
    address: `10.0.0.${id}:7400`,
    voter: true,
    reachable: true,
    replication: "replicate",
    matchIndex: 120,
    ...parts,
  });
}

/** Settings as they are when nobody set any. */
export function cluster(parts: Partial<Cluster> = {}): { cluster: Cluster } {
  return { cluster: Cluster.fromPartial({ meta: { id: "c0ffee" }, name: "prod", ...parts }) };
}

/** Three managers, of which the first leads and answers, unless told otherwise. */
export function clusterStatus(parts: Partial<ClusterStatus> = {}): ClusterStatus {
  const { leaderId = 1, managers = [manager(1), manager(2), manager(3)] } = parts;
  return ClusterStatus.fromPartial({
    clusterId: "c0ffee",
    cluster: "prod",
    store: "raft",
    term: 5,
    commitIndex: 120,
    appliedIndex: 119,
    revision: 40,
    writable: leaderId !== 0,
    answeredBy: leaderId,
    ...parts,
    leaderId,
    managers: managers.map((each) => ({ ...each, leader: each.id === leaderId })),
  });
}
