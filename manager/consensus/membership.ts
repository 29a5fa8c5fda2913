// Changes of who the managers are, on the leader: one at a time, each decided on the members as they are then.

import type { ConfChange } from "raft-ts";
import type { PeerStatus, RaftNode } from "raft-ts/node";
import { type Clock, ClusterError, type Logger, messageOf, type Violation, withDeadline } from "../../lib/mod.js";
import { type JoinRequest, type JoinResponse, MemberChange } from "../../proto/gen/flotilla/raft/v1/raft.js";
import type { Member, Tenure } from "./consensus.js";
import { notLeader } from "./errors.js";
import type { Identity } from "./identity.js";
import type { Members } from "./members.js";

/** More voters make every write slower and tolerate no more than is sensible. */
export const votersMax = 7;
/** Members without a vote besides. */
const learnersMax = 16;
/** From proposing a change until it is in force. */
const changeMsMax = 10_000;
/** A learner this close behind gets its vote: it will not hold commits back. */
const promotionLagMax = 500;
/** How often the leader looks whether a learner has caught up; no message tells it. */
const promotionLookMs = 200;
/** Changes that wait for the one under way. */
const waitingMax = 64;

export interface MembershipOptions {
  identity: Identity;
  members: Members;
  clock: Clock;
  log: Logger;
  node: () => RaftNode;
  /** Resolves with the tenure; throws `not_leader`. */
  tenure: () => Promise<Tenure>;
  fromRaft: (error: unknown) => unknown;
  /** Whether the member was heard of a moment ago. */
  isHeard: (id: number) => boolean;
}

export class Membership {
  readonly #options: MembershipOptions;
  /** The end of the change under way, and of those that wait for it. */
  #tail: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #cancelLook: (() => void) | undefined;
  #looking = false;
  #closed = false;

  constructor(options: MembershipOptions) {
    this.#options = options;
  }

  close(): void {
    this.#closed = true;
    this.#cancelLook?.();
  }

  /** The members or the leader changed: there may be a learner to be given its vote. */
  wake(): void {
    if (this.#closed || this.#looking || this.#cancelLook !== undefined || this.#candidates().length === 0) return;
    this.#cancelLook = this.#options.clock.after(promotionLookMs, () => {
      this.#cancelLook = undefined;
      void this.#promote();
    });
  }

  join(request: JoinRequest): Promise<JoinResponse> {
    return this.#inTurn(async () => {
      await this.#options.tenure();
      checkJoin(request);
      const { members, log } = this.#options;
      const { name, address, httpAddress, nonce, learner } = request;
      const known = members.all().find((member) => member.nonce === nonce && members.takesPart(member.id));
      if (known !== undefined) return this.#welcome(known);
      this.#checkRoom(request);
      for (const older of members.all()) {
        if (older.address !== address || !members.takesPart(older.id)) continue;
        // A manager whose disk is gone is silent: this is the address of one that is well, given by mistake. Or of one that
        // ended a moment ago: then the next try is taken.
        if (this.#options.isHeard(older.id))
          throw new ClusterError(
            "unavailable",
            `${describe(older)} has the address ${address} and answers: end it first if this one is to take its place, ` +
              "or give this one an address of its own with --advertise-addr",
          );
        log.info({ member: older.id, address }, "a new manager at the address of another: the older one is taken out");
        await this.#change([{ type: "remove", id: older.id }]);
      }
      const member: Member = { id: members.nextId, name, address, httpAddress, nonce, learner };
      await this.#change([{ type: "add-learner", id: member.id }], [member]);
      log.info({ member: member.id, name, address }, "a manager joined");
      return this.#welcome(member);
    });
  }

  remove(manager: string, force: boolean): Promise<Member> {
    return this.#inTurn(async () => {
      await this.#options.tenure();
      const { members, identity, log, node } = this.#options;
      const member = this.#find(manager);
      const { peers } = node().status();
      if (members.isVoter(member.id)) this.#checkRest(member, force);
      if (member.id === identity.memberId) {
        const next = this.#furthest(peers);
        if (next === undefined)
          throw new ClusterError(
            "failed_precondition",
            `${describe(member)} leads, and no other voting manager answers that could take over`,
          );
        log.info({ to: next.id }, "the leader is to be removed: it hands over first");
        await this.#handOver(next);
        // Who leads now removes this one: whoever asked is sent there.
        throw notLeader(next.address);
      }
      await this.#change([{ type: "remove", id: member.id }]);
      log.info({ member: member.id, name: member.name, address: member.address }, "a manager was removed");
      return member;
    });
  }

  transfer(manager: string): Promise<void> {
    return this.#inTurn(async () => {
      await this.#options.tenure();
      const { members, identity, node } = this.#options;
      const to = manager === "" ? this.#furthest(node().status().peers) : this.#find(manager);
      if (to === undefined)
        throw new ClusterError(
          "failed_precondition",
          "there is no other voting manager that answers: nobody could take over",
        );
      if (to.id === identity.memberId) return;
      if (!members.isVoter(to.id))
        throw new ClusterError("failed_precondition", `${describe(to)} has no vote (yet) and cannot lead`);
      if (!this.#options.isHeard(to.id))
        throw new ClusterError("failed_precondition", `${describe(to)} does not answer: it cannot take over`);
      await this.#handOver(to);
    });
  }

  /** To whoever answers, without a tenure of one's own. */
  async transferAnyway(): Promise<void> {
    const to = this.#furthest(this.#options.node().status().peers);
    if (to === undefined) throw new ClusterError("failed_precondition", "no other voting manager answers");
    await this.#handOver(to);
  }

  /** One after another: each must see what the one before it did. */
  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#waiting >= waitingMax)
      throw new ClusterError(
        "unavailable",
        `${waitingMax} changes of the managers are waiting already: try again later`,
      );
    this.#waiting += 1;
    const turn = this.#tail.then(work);
    // How it ends is its caller's to hear; the next one only waits for it.
    this.#tail = turn.catch(() => undefined);
    try {
      return await turn;
    } finally {
      this.#waiting -= 1;
    }
  }

  async #change(changes: ConfChange["changes"], added: readonly Member[] = []): Promise<void> {
    const { node, clock, fromRaft } = this.#options;
    const context = MemberChange.encode({ members: [...added] }).finish();
    try {
      await withDeadline(clock, changeMsMax, "the change of the managers", () =>
        node().changeMembers({ transition: "auto", changes, context }),
      );
    } catch (error) {
      const known = fromRaft(error);
      throw known instanceof ClusterError && known.code === "deadline_exceeded"
        ? new ClusterError("unknown_outcome", `no quorum confirms the change: see flotilla cluster status`, {
            cause: error,
          })
        : known;
    }
  }

  async #handOver(to: Member): Promise<void> {
    const { node, clock, fromRaft } = this.#options;
    try {
      await withDeadline(clock, changeMsMax, `handing over to ${describe(to)}`, (signal) =>
        node().transferLeadership(to.id, signal),
      );
    } catch (error) {
      throw fromRaft(error);
    }
  }

  #welcome({ id }: Member): JoinResponse {
    const { identity, members } = this.#options;
    const { clusterId, cluster, epoch, store, etcd } = identity;
    return { clusterId, cluster, epoch, id, members: [...members.all()], store, etcd: [...etcd] };
  }

  #checkRoom({ name, address, learner }: JoinRequest): void {
    const { members, identity } = this.#options;
    if (address === identity.address)
      throw ClusterError.invalid([
        {
          field: "address",
          value: address,
          rule: "is that of the leader itself",
          fix: "give the new manager an address of its own with --advertise-addr",
        },
      ]);
    const stay = members.all().filter((member) => members.takesPart(member.id) && member.address !== address);
    const named = stay.find((member) => member.name === name);
    if (named !== undefined)
      throw new ClusterError(
        "already_exists",
        `manager ${named.id} at ${named.address} has the name ${JSON.stringify(name)}: take it out first with ` +
          `flotilla cluster leave ${named.id}, or give the new one another name with --name`,
      );
    const voters = stay.filter((member) => members.isVoter(member.id) || !member.learner).length;
    if (!learner && voters >= votersMax)
      throw new ClusterError(
        "failed_precondition",
        `the cluster has ${voters} voting managers, and at most ${votersMax} can be: take one out first with flotilla cluster leave NAME`,
      );
    if (stay.length - voters >= learnersMax)
      throw new ClusterError(
        "failed_precondition",
        `the cluster has ${learnersMax} managers without a vote, and no more can be`,
      );
  }

  /** Whether those who stay can go on. */
  #checkRest(member: Member, force: boolean): void {
    const { members, identity } = this.#options;
    const rest = members.confState.voters.filter((id) => id !== member.id);
    if (rest.length === 0)
      throw new ClusterError(
        "failed_precondition",
        `${describe(member)} is the last voting manager: without it there is no cluster. Join another one first`,
      );
    const answer = rest.filter((id) => id === identity.memberId || this.#options.isHeard(id));
    const needed = Math.floor(rest.length / 2) + 1;
    if (answer.length >= needed || force) return;
    throw new ClusterError(
      "failed_precondition",
      `without ${describe(member)}, ${answer.length} of ${rest.length} voting managers answer, and ${needed} are needed: ` +
        "no write would be possible. Bring the others back or take them out first; --force does it all the same",
    );
  }

  #find(manager: string): Member {
    const all = this.#options.members.all();
    const member = all.find(
      ({ id, name, address }) => String(id) === manager || name === manager || address === manager,
    );
    if (member !== undefined) return member;
    throw new ClusterError(
      "not_found",
      `no manager ${JSON.stringify(manager)}; there are ${all.map(describe).join(", ")}`,
    );
  }

  /** The other voter that answers and has most of the log. */
  #furthest(peers: readonly PeerStatus[]): Member | undefined {
    const { members, identity, isHeard } = this.#options;
    const [best] = peers
      .filter(({ id }) => id !== identity.memberId && members.isVoter(id) && isHeard(id))
      .sort((a, b) => (b.match ?? 0) - (a.match ?? 0));
    return best === undefined ? undefined : members.get(best.id);
  }

  /** Learners that are to have a vote. */
  #candidates(): Member[] {
    const { members } = this.#options;
    const { learners } = members.confState;
    return members.all().filter(({ id, learner }) => !learner && learners.includes(id));
  }

  async #promote(): Promise<void> {
    const { node, log, isHeard } = this.#options;
    this.#looking = true;
    try {
      const { role, peers, lastIndex } = node().status();
      if (role !== "leader") return;
      const ready = this.#candidates().find(({ id }) => {
        const progress = peers.find((peer) => peer.id === id);
        return progress?.state === "replicate" && isHeard(id) && lastIndex - (progress.match ?? 0) <= promotionLagMax;
      });
      if (ready === undefined) return;
      await this.#inTurn(async () => {
        await this.#options.tenure();
        // Taken out meanwhile, or promoted by the leader before.
        if (!this.#candidates().some(({ id }) => id === ready.id)) return;
        await this.#change([{ type: "add-voter", id: ready.id }], [ready]);
        log.info({ member: ready.id, name: ready.name }, "a manager has caught up and votes");
      });
    } catch (error) {
      log.warn({ error: messageOf(error) }, "a manager that caught up has no vote yet: trying again");
    } finally {
      this.#looking = false;
      if (this.#isLeader()) this.wake();
    }
  }

  #isLeader(): boolean {
    return !this.#closed && this.#options.node().status().role === "leader";
  }
}

function describe({ id, name, address }: Member): string {
  return `manager ${id} (${name}, ${address})`;
}

function checkJoin({ name, address, httpAddress, nonce }: JoinRequest): void {
  const violations: Violation[] = [];
  const hostPort = (field: string, value: string) => {
    if (!/^\[?[^\s[\]]+\]?:([1-9]\d{0,4})$/.test(value) || Number(value.slice(value.lastIndexOf(":") + 1)) > 65_535)
      violations.push({ field, value, rule: "must be HOST:PORT", fix: "write for example 10.0.0.1:7400" });
  };
  hostPort("address", address);
  hostPort("http_address", httpAddress);
  if (!/^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/.test(name))
    violations.push({
      field: "name",
      value: name,
      rule: "must be a host name of letters, digits, '-' and '.'",
      fix: "write for example --name h1",
    });
  if (!/^[0-9a-z]{10,64}$/.test(nonce))
    violations.push({
      field: "nonce",
      value: nonce,
      rule: "must be 10 to 64 characters of 0-9a-z",
      fix: "let flotilla cluster join make it",
    });
  if (violations.length > 0) throw ClusterError.invalid(violations);
}
