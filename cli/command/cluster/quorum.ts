// What taking a manager out would do to the others, before it is done.

import type { ClusterStatus, ManagerStatus } from "../../../proto/gen/flotilla/control/v1/control.js";
import { Failure, exits } from "../../exit.js";
import { leaderOf, quorumOf, votersOf } from "../../screen/cluster.js";
import { count, plain } from "../../screen/text.js";

/** By name, id or address. */
export function findManager(status: ClusterStatus, asked: string): ManagerStatus {
  const found = status.managers.filter(
    ({ id, name, address }) => name === asked || address === asked || String(id) === asked,
  );
  const [only] = found;
  if (only !== undefined && found.length === 1) return only;
  if (found.length > 1)
    throw new Failure(exits.error, `${found.length} managers are called ${asked}`, {
      next: found.map(({ id, address }) => `write ${id} for the one at ${address}`),
    });
  throw new Failure(exits.error, `no manager ${JSON.stringify(asked)} in cluster ${status.cluster}`, {
    why: [`there are ${status.managers.map(({ id, name }) => `${name} (${id})`).join(", ")}`],
    next: ["flotilla cluster status"],
  });
}

/** Refuses what cannot be done at all, or what would leave the managers without a quorum unless that is wanted. */
export function checkLeaving(status: ClusterStatus, leaving: ManagerStatus, force: boolean): void {
  const { cluster, store } = status;
  if (store === "memory")
    throw new Failure(exits.error, "a manager with --store memory is alone: stop it, and its cluster is gone");
  if (leaderOf(status) === undefined)
    throw new Failure(exits.error, `cluster ${cluster} has no leader now: no manager can be taken out`, {
      next: [
        "flotilla cluster status     # who is missing",
        "flotilla cluster recover    # on one manager's host, if a majority is lost for good",
      ],
    });
  const voters = votersOf(status);
  if (leaving.voter && voters.length === 1)
    throw new Failure(exits.error, `${leaving.name} is the only manager with a vote: the cluster would end with it`, {
      next: [
        "flotilla node promote NODE    # another manager first",
        "stop it and remove its --data-dir, if the cluster is to end",
      ],
    });
  if (!leaving.voter || force) return;
  const rest = voters.filter(({ id }) => id !== leaving.id);
  const reachable = rest.filter(({ id, reachable }) => reachable || id === status.leaderId);
  const quorum = quorumOf(rest.length);
  if (reachable.length >= quorum) return;
  const away = rest.filter((each) => !reachable.includes(each)).map(({ name }) => name);
  throw new Failure(
    exits.error,
    `without ${leaving.name} the managers have no quorum: of ${rest.length} left, ${quorum} must answer, and ${reachable.length === 1 ? "one does" : `${reachable.length} do`}`,
    {
      why: [`${away.join(", ")} cannot be reached`],
      next: [
        `bring ${away.join(" or ")} back, or take ${away.length === 1 ? "it" : "them"} out first: flotilla cluster leave ${away[0] ?? ""}`,
        `flotilla cluster leave --force ${leaving.name}    # all the same; writes stop until enough answer`,
      ],
    },
  );
}

/** What remains, for the question before it. */
export function afterwards(status: ClusterStatus, leaving: ManagerStatus): string {
  const left = votersOf(status).filter(({ id }) => id !== leaving.id).length;
  const spare = left - quorumOf(left);
  return plain(
    `${count(left, "voter")} ${left === 1 ? "stays" : "stay"}, and ${spare === 0 ? "none of them may fail" : `${spare} of them may fail`}.`,
  );
}
