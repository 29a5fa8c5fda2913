// What the agent needs of a container engine, and nothing more. Two implementations, the real one (docker/) and the
// fake of the tests, pass one contract suite. Every call ends: each has a deadline of its own, and rejects with a
// ClusterError; `not_found` and `conflict` mean what they say, `unavailable` means that the engine itself is away.

import type { ContainerHealth, ContainerSpec, HostPort, PortSpec, Resources } from "../../proto/mod.js";

export interface EngineInfo {
  version: string;
  apiVersion: string;
  os: string;
  /** As Docker's platforms name it: amd64, arm64, … */
  architecture: string;
  /** Of the whole host. */
  resources: Resources;
  labels: Record<string, string>;
  /** Drivers that its volumes may have, "local" among them. */
  volumeDrivers: string[];
}

export interface ContainerRequest {
  name: string;
  labels: Record<string, string>;
  spec: ContainerSpec;
  limits: Resources;
  reservations: Resources;
  /** The network to attach to, by the id that ensureNetwork gave. */
  networkId: string;
  /** Name servers and search domain of the container. */
  dns: { servers: string[]; search: string[] };
  /**
   * Ports to publish: those of mode host on all addresses, on their published port if they have one; the others on
   * `hostAddress`, on free host ports that the engine picks.
   */
  ports: PortSpec[];
  hostAddress: string;
}

/** A container as it is now: inspect is the truth, events are hints. */
export interface ContainerState {
  id: string;
  name: string;
  labels: Record<string, string>;
  status: "created" | "running" | "paused" | "restarting" | "removing" | "exited" | "dead";
  /** Valid once it has run and is not running. */
  exitCode: number;
  oomKilled: boolean;
  /** The engine's own words when a start failed. */
  error: string;
  health: ContainerHealth;
  /** 0 when never. */
  startedAtMs: number;
  finishedAtMs: number;
  /** On the network it was attached to; empty when it is not running. */
  address: string;
  hostPorts: HostPort[];
}

/** What a container uses; undefined is what this host does not tell. */
export interface ContainerUse {
  /** Processor time since its groups were made, which may be at each start. */
  cpuNs: number | undefined;
  /** Without the page cache. */
  memoryBytes: number | undefined;
}

export interface EngineLogLine {
  atMs: number;
  stream: "stdout" | "stderr";
  text: Uint8Array;
}

export interface LogRequest {
  follow: boolean;
  /** Last lines only; all when absent. */
  tail?: number;
  sinceMs?: number;
}

/** Something happened to a container: look again. `id` is absent when events may have been missed: look at all. */
export interface EngineEvent {
  id?: string;
}

export interface Engine extends AsyncDisposable {
  /** Cheap; `unavailable` when the engine does not answer. */
  ping(): Promise<void>;
  info(): Promise<EngineInfo>;
  /**
   * Names the engine's current life: another value means that it was started anew, and that containers which did not
   * live through that were ended by it, with exit codes that are invented.
   */
  epoch(): Promise<string>;
  /** The bridge network of that name with that subnet, made if absent; `failed_precondition` when it exists with another subnet. */
  ensureNetwork(request: {
    name: string;
    subnet: string;
    gateway: string;
    labels: Record<string, string>;
  }): Promise<{ id: string }>;
  /** Makes the image present by the policy; `onProgress` gets short words. `not_found`, `permission_denied`, `unavailable`. */
  ensureImage(
    image: string,
    policy: "missing" | "always" | "never",
    signal: AbortSignal,
    onProgress?: (words: string) => void,
  ): Promise<void>;
  /** `already_exists` when the name is taken, with the holder's id in details.id. */
  create(request: ContainerRequest): Promise<{ id: string }>;
  start(id: string): Promise<void>;
  /** Sends the container's stop signal, then SIGKILL after `graceMs`. Success when it is not running already, or gone. */
  stop(id: string, graceMs: number): Promise<void>;
  /** Removes it whatever its state, with its anonymous volumes; success when it is gone already. */
  remove(id: string): Promise<void>;
  inspect(id: string): Promise<ContainerState>;
  /** What it uses now; undefined when it does not run. Cheap enough to be asked of every container every few seconds. */
  use(id: string): Promise<ContainerUse | undefined>;
  /** All containers with these labels, whatever their state. */
  list(labels: Record<string, string>): Promise<ContainerState[]>;
  /**
   * Events of containers with these labels, until the signal aborts; survives the engine's restarts, and yields an
   * event without id after every interruption and at the start.
   */
  events(labels: Record<string, string>, signal: AbortSignal): AsyncIterable<EngineEvent>;
  logs(id: string, request: LogRequest, signal: AbortSignal): AsyncIterable<EngineLogLine>;
}
