// Takes nodes in: who may register, how often, and what is stored of the host. Thousands register at once when a
// manager begins to lead, so nothing here looks through all nodes, and what says nothing new is not written.

import { type Clock, ClusterError, type Logger } from "../../lib/mod.js";
import { type Node, NodeAvailability, type NodeDescription, NodeRole, NodeState } from "../../proto/mod.js";
import type { RegisterRequest } from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import { NodeDescription as NodeDescriptionMessage } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { SubnetPool } from "../allocator/mod.js";
import type { Store } from "../store/mod.js";

/** Registrations of one node that are taken within that time; agents wait up to 5 s between two of them. */
const registrationsMax = 10;
const registrationsWithinMs = 10_000;

export interface RegistrarOptions {
  store: Store;
  clock: Clock;
  log: Logger;
  /** Whether the node's agent is connected to this manager. */
  hasSession: (nodeId: string) => boolean;
  /** A node was heard of that is not taken in for now. */
  onAlive: (nodeId: string) => void;
}

export class Registrar {
  readonly #options: RegistrarOptions;
  readonly #subnets = new SubnetPool();
  /** Registrations under way, by node. */
  readonly #underWay = new Map<string, number>();
  /** When each node registered lately, on the monotonic clock. */
  readonly #lately = new Map<string, number[]>();
  /** Node ids by advertise address: each must find who else has its own. */
  readonly #byAddress = new Map<string, Set<string>>();

  constructor(options: RegistrarOptions) {
    this.#options = options;
  }

  /** Whether the node is being stored and its session is about to open. */
  isUnderWay(nodeId: string): boolean {
    return this.#underWay.has(nodeId);
  }

  /** A stored node that changed. */
  index(before: Node | undefined, after: Node | undefined): void {
    const id = (after ?? before)?.meta.id ?? "";
    this.#subnets.stored(id, after?.subnet);
    this.#indexAddress(before, after);
  }

  /** Forgets who has not registered for long. */
  sweep(): void {
    const staleMs = this.#options.clock.monotonic() - registrationsWithinMs;
    for (const [nodeId, times] of this.#lately) if (times.every((atMs) => atMs <= staleMs)) this.#lately.delete(nodeId);
  }

  /** Stores the node and calls `open` with it; until that has returned the registration is under way. */
  async register<T>(request: RegisterRequest, open: (node: Node) => T): Promise<T> {
    const { nodeId } = request;
    this.#admit(nodeId);
    this.#underWay.set(nodeId, (this.#underWay.get(nodeId) ?? 0) + 1);
    let mayBeStored = false;
    try {
      return open(await this.#storeNode(request));
    } catch (failure) {
      mayBeStored = failure instanceof ClusterError && failure.code === "unknown_outcome";
      // It lives, and is only not taken for now: an outage of the store must not make its tasks orphans.
      if (mayBeStored || (failure instanceof ClusterError && failure.retryable)) this.#options.onAlive(nodeId);
      throw failure;
    } finally {
      const left = (this.#underWay.get(nodeId) ?? 1) - 1;
      if (left > 0) this.#underWay.set(nodeId, left);
      else {
        this.#underWay.delete(nodeId);
        // Nobody else is given what may yet turn out to be stored; the node is, when it comes again.
        if (!mayBeStored) this.#subnets.settle(nodeId);
      }
    }
  }

  /** Each registration is a write and sends everything anew: an agent that does nothing else is held back. */
  #admit(nodeId: string): void {
    if (!/^[0-9a-z]{10,64}$/.test(nodeId))
      throw ClusterError.invalid([
        {
          field: "node_id",
          value: nodeId.slice(0, 200),
          rule: "must be 10 to 64 characters of 0-9a-z",
          fix: "let the agent make it",
        },
      ]);
    const nowMs = this.#options.clock.monotonic();
    const fresh = (this.#lately.get(nodeId) ?? []).filter((atMs) => atMs > nowMs - registrationsWithinMs);
    if (fresh.length >= registrationsMax) {
      this.#options.onAlive(nodeId);
      throw new ClusterError(
        "resource_exhausted",
        `node ${nodeId} registered ${fresh.length} times within ${registrationsWithinMs / 1_000} s; is its agent running twice? It is taken again in a moment`,
      );
    }
    fresh.push(nowMs);
    this.#lately.set(nodeId, fresh);
  }

  async #storeNode({ nodeId, description }: RegisterRequest): Promise<Node> {
    const { resources, ...rest } = description ?? { resources: undefined };
    if (
      resources === undefined ||
      !("advertiseAddress" in rest) ||
      rest.advertiseAddress === "" ||
      rest.hostname === ""
    )
      throw ClusterError.invalid([
        {
          field: "description",
          value: JSON.stringify(description ?? null).slice(0, 200),
          rule: "must have hostname, advertise_address and resources",
          fix: "use an agent of this version",
        },
      ]);
    const whole = { ...rest, resources };
    const { store, clock, log } = this.#options;
    let isWritten = true;
    const stored = await store.update((tx) => {
      isWritten = true;
      const [cluster] = tx.clusters.values();
      if (cluster === undefined) throw new ClusterError("unavailable", "the cluster's settings are not stored yet");
      const nowMs = clock.now();
      const before = tx.nodes.get(nodeId);
      for (const id of this.#byAddress.get(whole.advertiseAddress) ?? []) {
        const other = tx.nodes.get(id);
        if (other === undefined || id === nodeId || other.description.advertiseAddress !== whole.advertiseAddress)
          continue;
        // The same host with a new disk: its old self can't come back, and two nodes on one address would mix routes.
        if (other.status.state === NodeState.READY && this.#options.hasSession(other.meta.id))
          throw new ClusterError(
            "already_exists",
            `node ${other.description.hostname} (${other.meta.id}) already has the address ${whole.advertiseAddress}; give this agent its own with --advertise-addr`,
          );
      }
      // All agents are back at once when a manager begins to lead: thousands of writes that say nothing would hold up
      // what keeps it the leader.
      if (
        before?.status.state === NodeState.READY &&
        !before.status.lossConfirmed &&
        isSame(before.description, whole)
      ) {
        isWritten = false;
        return before;
      }
      const node: Node = {
        meta: before?.meta ?? { id: nodeId, version: 0, createdAtMs: nowMs, updatedAtMs: nowMs },
        spec: before?.spec ?? {
          availability: NodeAvailability.ACTIVE,
          role: NodeRole.UNSPECIFIED,
          labels: {},
          availabilitySinceMs: 0,
        },
        description: whole,
        manager: before?.manager ?? false,
        status:
          before?.status.state === NodeState.READY
            ? { ...before.status, lossConfirmed: false }
            : { state: NodeState.READY, message: "registered", sinceMs: nowMs, lossConfirmed: false, lastSeenAtMs: 0 },
        problems: before?.problems ?? [],
        subnet: before?.subnet ?? this.#subnets.take(cluster, nodeId),
      };
      if (before === undefined) {
        log.info({ node: nodeId, hostname: whole.hostname, subnet: node.subnet }, "node joined");
        tx.create("nodes", node);
      } else tx.put("nodes", { ...node, meta: { ...before.meta, updatedAtMs: nowMs } });
      return node;
    });
    // No write was refused that one who was deposed and does not know it would find out by, and its agents would take
    // what was for what is: start what they had stopped for being cut off, say. All who come at once share the question.
    if (!isWritten) await store.barrier();
    return stored;
  }

  #indexAddress(before: Node | undefined, after: Node | undefined): void {
    const [from, to] = [before?.description.advertiseAddress, after?.description.advertiseAddress];
    if (before !== undefined && from !== undefined && from !== to) {
      const ids = this.#byAddress.get(from);
      ids?.delete(before.meta.id);
      if (ids?.size === 0) this.#byAddress.delete(from);
    }
    if (after === undefined || to === undefined) return;
    const ids = this.#byAddress.get(to);
    if (ids === undefined) this.#byAddress.set(to, new Set([after.meta.id]));
    else ids.add(after.meta.id);
  }
}

function isSame(a: NodeDescription, b: NodeDescription): boolean {
  const bytesOf = (description: NodeDescription) => Buffer.from(NodeDescriptionMessage.encode(description).finish());
  return bytesOf(a).equals(bytesOf(b));
}
