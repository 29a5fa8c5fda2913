// Who may talk to whom. Both ends look: who dials a wrong manager is told so, and so is one that was taken out.

import { ClusterError } from "../../../lib/mod.js";
import type { Greeting } from "../../../proto/gen/flotilla/raft/v1/raft.js";

/** In details of the refusal of a member that was taken out: it never comes back as who it was. */
export const removedDetail = "removed";

/** In details of the refusal of a manager of an older epoch: the epoch that the cluster was recovered to since. */
export const epochDetail = "epoch";
/** In details of the refusal of a second process that says it is the same member. */
export const twiceDetail = "twice";

export interface Host {
  readonly clusterId: string;
  readonly epoch: number;
  readonly id: number;
  /** host:port of this manager, for messages and greetings. */
  readonly address: string;
  /** Whether the member was taken out, for all this manager knows. */
  isGone(id: number): boolean;
  /** host:port of a member, as the membership here says; undefined while it does not know it. */
  addressOf(id: number): string | undefined;
  /** Made anew with each start: two processes that say they are the same member are told apart by it. */
  readonly incarnation: string;
}

/** The greeting that `host` opens its streams with. */
export function greetingTo(host: Host, to: number): Greeting {
  const { clusterId, epoch, id: from, address, incarnation } = host;
  return { clusterId, epoch, from, to, address, incarnation };
}

/** Throws the refusal, if there is a reason for one. */
export function checkGreeting(host: Host, greeting: Greeting | undefined): asserts greeting is Greeting {
  const refuse = (message: string, details: Record<string, string> = {}): never => {
    throw new ClusterError("failed_precondition", message, { details });
  };
  if (greeting === undefined) return refuse("a manager's stream begins with a greeting, and this one did not");
  const { clusterId, epoch, from, to, address } = greeting;
  const who = `manager ${from} (${address})`;
  if (clusterId !== host.clusterId)
    refuse(`${host.address} is of cluster ${host.clusterId}, and ${who} of cluster ${clusterId}`);
  if (epoch < host.epoch)
    refuse(
      `${who} is of epoch ${epoch}, and the cluster was recovered without it since: ${host.address} is at epoch ${host.epoch}`,
      { [epochDetail]: String(host.epoch) },
    );
  if (epoch > host.epoch)
    refuse(
      `${who} is of epoch ${epoch}, and ${host.address} still of epoch ${host.epoch}: the cluster was recovered without it. ` +
        `Move the data directory of ${host.address} away and join it anew with --join ${address}`,
    );
  if (host.isGone(from)) refuse(`${who} was removed from the cluster`, { [removedDetail]: String(from) });
  const known = host.addressOf(from);
  if (known !== undefined && known !== address)
    refuse(
      `manager ${from} is at ${known}, and a process at ${address} says that it is the same one: ` +
        "a manager's directory was copied, or its address changed, which is for its life",
    );
  if (to !== host.id) refuse(`${host.address} is manager ${host.id}, and ${who} looked for manager ${to} there`);
}
