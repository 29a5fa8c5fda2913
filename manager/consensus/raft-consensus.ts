// The managers' consensus on raft-ts: one node of the log, who the members are, and whose turn it is to lead.

import type { UntypedServiceImplementation } from "@grpc/grpc-js";
import { RaftError, RaftNode, type RaftNodeOptions } from "raft-ts/node";
import { type Clock, ClusterError, type Logger, messageOf, type Rng, withDeadline } from "../../lib/mod.js";
import type { ClusterStatus } from "../../proto/gen/flotilla/control/v1/control.js";
import type { JoinRequest, JoinResponse } from "../../proto/gen/flotilla/raft/v1/raft.js";
import type { Handlers } from "../rpc/mod.js";
import type { Consensus, Member, StoreMachine, Tenure } from "./consensus.js";
import { fromRaftError, notLeader } from "./errors.js";
import { explained } from "./disk.js";
import { type Identity, raftDirectory, writeIdentity } from "./identity.js";
import { Machine } from "./machine.js";
import { Members } from "./members.js";
import { Membership } from "./membership.js";
import { foundingConfState } from "./offline.js";
import { clusterStatus, reachableIn } from "./status.js";
import { Tenures } from "./tenure.js";
import { type PeerState, RaftTransport } from "./transport/mod.js";

/** One entry's data; a receiver takes messages of up to 4 MiB. */
export const entryBytesMax = 2 * 1024 * 1024;
/** Another process that is this member has been in touch with others for so long, and this one with no leader. */
const twiceMsMax = 5_000;
/** How long this manager waits, as one that has just begun to lead, before it answers a question about members. */
const tenureMsMax = 3_000;
/** One that was elected has heard of everybody by then who lives; until then it is enough to be connected. */
const electedMsMax = 1_000;
/** How often a leader looks whether its disk is full; refused writes make it look at once. */
const diskLookMs = 1_000;
/** Between two attempts to make another one the leader for it: where all disks are full, it would go round. */
const diskHandOverMs = 30_000;

/** Elections end within two or three timeouts of a second; a read that comes later than this is not kept waiting. */
const leaderlessMsMax = 4_000;

export interface ConsensusOptions {
  identity: Identity;
  dataDir: string;
  /** The embedded store's part; absent with etcd. */
  machine?: StoreMachine | undefined;
  clock: Clock;
  rng: Rng;
  log: Logger;
  /** The disk or an invariant is broken: the process must end. */
  onFatal: (error: Error) => void;
  /** This manager was taken out: it must end, and never starts again as who it was. */
  onRemoved: (message: string) => void;
  /** Shorter in tests; see RaftNodeOptions. */
  tickMs?: number;
  snapshotEntries?: number;
}

export class RaftConsensus implements Consensus {
  readonly #options: ConsensusOptions;
  readonly #members: Members;
  readonly #transport: RaftTransport;
  readonly #tenures: Tenures;
  readonly #membership: Membership;
  readonly #listeners = new Set<() => void>();
  #node: RaftNode | undefined;
  #leaderId = 0;
  /** When this manager was last elected, on the monotonic clock. */
  #electedMs = Number.NEGATIVE_INFINITY;
  /** Since when there is no leader, on the monotonic clock. */
  #leaderlessSinceMs: number;
  /** Why, for good. */
  #removed: string | undefined;
  #closed = false;
  #cancelDiskLook: (() => void) | undefined;
  /** When this leader last began to hand over for its full disk, on the monotonic clock, and whether it does right now. */
  #disk = { handedOverMs: Number.NEGATIVE_INFINITY, handingOver: false };

  /** Reads the log; the store's machine is restored from the newest snapshot before this resolves. */
  static async open(options: ConsensusOptions): Promise<RaftConsensus> {
    const consensus = new RaftConsensus(options);
    try {
      await consensus.#open();
    } catch (error) {
      await consensus[Symbol.asyncDispose]();
      throw error;
    }
    return consensus;
  }

  private constructor(options: ConsensusOptions) {
    const { identity, clock, rng, log } = options;
    this.#options = options;
    this.#leaderlessSinceMs = clock.monotonic();
    const members = new Members(identity.members, foundingConfState);
    this.#members = members;
    this.#transport = new RaftTransport({
      host: {
        clusterId: identity.clusterId,
        epoch: identity.epoch,
        id: identity.memberId,
        address: identity.address,
        isGone: (id) => members.isGone(id),
      },
      clock,
      rng,
      log,
      onRemoved: (message) => this.#onRemoved(message),
      onTwice: (message) => this.#onTwice(message),
    });
    this.#tenures = new Tenures({ epoch: identity.epoch, log, onChange: () => this.#changed() });
    this.#membership = new Membership({
      identity,
      members,
      clock,
      log,
      node: () => this.#opened(),
      tenure: () => this.#awaitTenure(),
      fromRaft: (error) => this.#fromRaft(error),
      isHeard: (id) => this.#peers().some((peer) => peer.id === id && peer.heard),
    });
  }

  async #open(): Promise<void> {
    const { identity, dataDir, machine, clock, rng, log, onFatal, tickMs, snapshotEntries } = this.#options;
    const options: RaftNodeOptions = {
      id: identity.memberId,
      directory: raftDirectory(dataDir),
      machine: new Machine(this.#members, machine, () => this.#membersChanged()),
      transport: this.#transport,
      clock,
      random: (n) => rng.below(n),
      bootstrap: foundingConfState,
      onFatal,
      log,
      ...(tickMs === undefined ? {} : { tickMs }),
      ...(snapshotEntries === undefined ? {} : { snapshotEntries }),
    };
    const node = await this.#begin(options);
    this.#node = node;
    this.#transport.attach(node);
    this.#membersChanged();
    node.onLeadership(({ lead, term, leading }) => {
      if (lead === 0 && this.#leaderId !== 0) this.#leaderlessSinceMs = clock.monotonic();
      if (lead === identity.memberId && this.#leaderId !== lead) this.#electedMs = clock.monotonic();
      this.#leaderId = lead;
      this.#tenures.lead(leading ? term : undefined);
      this.#changed();
    });
    this.#lookAtDisk();
  }

  /** A leader whose disk is full makes another one the leader, whose disk may have room. */
  #lookAtDisk(): void {
    const { clock, log, identity } = this.#options;
    this.#cancelDiskLook?.();
    if (this.#closed) return;
    this.#cancelDiskLook = clock.after(diskLookMs, () => this.#lookAtDisk());
    const { role, diskProblem } = this.#opened().status();
    const others = this.#members.confState.voters.filter((id) => id !== identity.memberId);
    const nowMs = clock.monotonic();
    if (role !== "leader" || diskProblem === undefined || others.length === 0) return;
    if (this.#disk.handingOver || nowMs - this.#disk.handedOverMs < diskHandOverMs) return;
    this.#disk = { handedOverMs: nowMs, handingOver: true };
    log.warn({ problem: diskProblem }, "this leader's disk is full: another manager is to lead");
    this.#membership
      .transferAnyway()
      .catch((error: unknown) =>
        log.warn({ error: messageOf(error) }, "nobody else could be made the leader: writes are refused meanwhile"),
      )
      .finally(() => {
        this.#disk.handingOver = false;
      });
  }

  /** The first time, the log is made before it is written down that there is one, and that before anybody hears of it. */
  async #begin(options: RaftNodeOptions): Promise<RaftNode> {
    const { identity, dataDir } = this.#options;
    try {
      if (!identity.begun) {
        await RaftNode.begin(options);
        await writeIdentity(dataDir, { ...identity, begun: true });
      }
      return await RaftNode.open({ ...options, begun: true });
    } catch (error) {
      throw explained(error, dataDir);
    }
  }

  get clusterId(): string {
    return this.#options.identity.clusterId;
  }

  get clusterName(): string {
    return this.#options.identity.cluster;
  }

  get epoch(): number {
    return this.#options.identity.epoch;
  }

  get self(): Member {
    const { memberId: id, name, address, httpAddress, nonce } = this.#options.identity;
    return this.#members.get(id) ?? { id, name, address, httpAddress, nonce, learner: false };
  }

  members(): readonly Member[] {
    return this.#members.all();
  }

  leader(): Member | undefined {
    return this.#leaderId === 0 ? undefined : this.#members.get(this.#leaderId);
  }

  tenure(): Tenure | undefined {
    return this.#tenures.current;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  health(): { ready: boolean; message: string; readable?: boolean } {
    if (this.#removed !== undefined)
      return { ready: false, message: `this manager is not of the cluster any more: ${this.#removed}` };
    const { applied, commit, term, diskProblem } = this.#opened().status();
    if (this.#leaderId === 0) {
      const seconds = Math.round((this.#options.clock.monotonic() - this.#leaderlessSinceMs) / 1_000);
      return {
        ready: false,
        message: `no leader for ${seconds} s: ${reachableIn(this.self, this.#members, this.#transport.peers())}`,
      };
    }
    const problem = this.#tenures.problemIn(term);
    if (problem !== undefined && this.#leaderId === this.#options.identity.memberId)
      return { ready: false, message: `this manager was elected and may not lead: ${problem}` };
    if (applied < commit)
      // The usual distance is a few entries; a manager that has just started reads its log.
      return commit - applied > 1_000
        ? { ready: false, message: `reading the log: ${commit - applied} entries are left` }
        : { ready: true, message: "in consensus" };
    return diskProblem === undefined
      ? { ready: true, message: "in consensus" }
      : { ready: false, message: diskProblem, readable: true };
  }

  async propose(data: Uint8Array): Promise<unknown> {
    if (data.length > entryBytesMax)
      throw new ClusterError(
        "resource_exhausted",
        `an entry of ${data.length} bytes is too large: at most ${entryBytesMax}`,
      );
    try {
      return await this.#opened().propose(data);
    } catch (error) {
      throw this.#fromRaft(error);
    }
  }

  async barrier(signal?: AbortSignal): Promise<void> {
    // An election is waited for; where none has succeeded for long, the answer is known.
    if (this.#leaderId === 0 && this.#options.clock.monotonic() - this.#leaderlessSinceMs > leaderlessMsMax)
      throw new ClusterError("unavailable", `no consistent read: ${this.#whyNoQuorum()}`);
    try {
      await this.#opened().readBarrier(signal);
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof RaftError && error.code === "no-quorum")
        throw new ClusterError("unavailable", `no consistent read: ${this.#whyNoQuorum()}`, { cause: error });
      throw this.#fromRaft(error);
    }
  }

  status(): ClusterStatus {
    const { identity } = this.#options;
    return clusterStatus({
      identity,
      members: this.#members,
      node: this.#opened().status(),
      peers: this.#peers(),
      health: this.health(),
    });
  }

  removeManager(manager: string, force: boolean): Promise<Member> {
    return this.#membership.remove(manager, force);
  }

  transferLeadership(manager: string): Promise<void> {
    return this.#membership.transfer(manager);
  }

  /** Its writes are refused elsewhere: it gives its tenure up for good, and another manager the chance to lead. */
  resign({ term }: Pick<Tenure, "term">, reason: string): void {
    this.#tenures.resign(term, reason);
    const others = this.#members.confState.voters.filter((id) => id !== this.#options.identity.memberId);
    if (this.#leaderId !== this.#options.identity.memberId || others.length === 0) return;
    this.#membership.transferAnyway().catch((error: unknown) => {
      this.#options.log.warn({ term, error: messageOf(error) }, "nobody else could be made the leader");
    });
  }

  join(request: JoinRequest): Promise<JoinResponse> {
    return this.#membership.join(request);
  }

  /** For `server.addService(raftService, …)`. */
  handlers(handlers: Handlers): UntypedServiceImplementation {
    return this.#transport.handlers(handlers, (request) => this.join(request));
  }

  /** Members that this manager has a connection with, itself included. */
  reachable(): number {
    return 1 + this.#transport.peers().filter(({ connected }) => connected).length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#cancelDiskLook?.();
    this.#membership.close();
    this.#tenures.close();
    await this.#node?.close();
    await this.#transport[Symbol.asyncDispose]();
    this.#listeners.clear();
  }

  /**
   * Followers hear of the leader only: who has just been elected would take those for gone whose first answer is on its
   * way, and refuse the very removal for which its predecessor handed over.
   */
  #peers(): readonly PeerState[] {
    const peers = this.#transport.peers();
    if (this.#options.clock.monotonic() - this.#electedMs >= electedMsMax) return peers;
    return peers.map((peer) => ({ ...peer, heard: peer.heard || peer.connected }));
  }

  #opened(): RaftNode {
    if (this.#node === undefined) throw new ClusterError("unavailable", "this manager is starting");
    return this.#node;
  }

  /** This manager's tenure; as one that has just been elected it waits for it. `not_leader` elsewhere. */
  async #awaitTenure(): Promise<Tenure> {
    const isElected = () => this.#leaderId === this.#options.identity.memberId;
    if (this.tenure() === undefined && isElected())
      await withDeadline(this.#options.clock, tenureMsMax, "the beginning of this manager's tenure", () =>
        this.#until(() => this.tenure() !== undefined || !isElected()),
      ).catch((error: unknown) => {
        throw new ClusterError("unavailable", `this manager was just elected, and is not ready to lead`, {
          cause: error,
        });
      });
    const tenure = this.tenure();
    if (tenure === undefined) throw notLeader(this.leader()?.address);
    return tenure;
  }

  #until(holds: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        if (!holds() && !this.#closed) return;
        stop();
        resolve();
      };
      const stop = this.onChange(look);
      look();
    });
  }

  #whyNoQuorum(): string {
    const { diskProblem } = this.#opened().status();
    // What was committed since it filled is not here, and what is here is not all there is.
    if (this.#leaderId !== 0 && diskProblem !== undefined) return `ask another manager: ${diskProblem}`;
    return this.#leaderId === 0
      ? this.health().message
      : `no quorum confirms it in time: ${reachableIn(this.self, this.#members, this.#transport.peers())}`;
  }

  #fromRaft(error: unknown): unknown {
    const known = fromRaftError(error, (id) => this.#members.get(id)?.address);
    if (error instanceof RaftError && error.code === "disk-full") {
      this.#lookAtDisk();
      const { id, name, address } = this.self;
      const whose = `manager ${id} (${name}, ${address}), which leads: ${error.message}`;
      return this.#disk.handingOver
        ? new ClusterError("unavailable", `another manager is about to lead instead of ${whose}`, { cause: error })
        : new ClusterError("resource_exhausted", whose, { cause: error });
    }
    if (known instanceof ClusterError && known.code === "unavailable" && this.#leaderId === 0 && !this.#closed)
      return new ClusterError("unavailable", this.health().message, { cause: error });
    return known;
  }

  #membersChanged(): void {
    // While the log is read at the start there is no node yet, and nobody is dialled for members of long ago.
    if (this.#node === undefined) return;
    this.#transport.setMembers(this.#members.all());
    if (this.#members.isGone(this.#options.identity.memberId))
      this.#onRemoved(`manager ${this.#options.identity.memberId} was removed from the cluster`);
    this.#changed();
  }

  #onRemoved(message: string): void {
    if (this.#removed !== undefined || this.#closed) return;
    this.#removed = message;
    this.#options.onRemoved(message);
  }

  /** Whoever of the two has no leader for a while is the one too many: nothing that is sent to this member comes here. */
  #onTwice(message: string): void {
    if (this.#leaderId !== 0 || this.#closed) return;
    if (this.#options.clock.monotonic() - this.#leaderlessSinceMs < twiceMsMax) return;
    this.#options.onFatal(
      new ClusterError(
        "failed_precondition",
        `${message}: end this process, and remove ${this.#options.dataDir} if it is the copy`,
      ),
    );
  }

  #changed(): void {
    this.#membership.wake();
    for (const listener of [...this.#listeners]) {
      try {
        listener();
      } catch (error) {
        this.#options.log.error({ err: error, error: messageOf(error) }, "a listener of the consensus failed");
      }
    }
  }
}
