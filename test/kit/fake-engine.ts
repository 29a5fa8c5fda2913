// A container engine in memory. It does what the contract suite asks of a real one, can be told to misbehave, and
// throws on everything else: a test that leans on what is not here fails instead of passing by luck.

import { BoundedStream, ClusterError } from "../../lib/mod.js";
import type {
  ContainerRequest,
  ContainerState,
  ContainerUse,
  Engine,
  EngineEvent,
  EngineInfo,
  EngineLogLine,
  LogRequest,
} from "../../agent/engine/engine.js";
import { ContainerHealth, MountType, PublishMode } from "../../proto/mod.js";

type Operation = Exclude<keyof Engine, typeof Symbol.asyncDispose | "events" | "logs">;

interface FakeContainer {
  state: ContainerState;
  request: ContainerRequest;
  logs: EngineLogLine[];
  /** Signals ignored: only SIGKILL ends it. */
  stubborn: boolean;
  use: ContainerUse;
}

interface Watcher {
  labels: Record<string, string>;
  stream: BoundedStream<EngineEvent>;
}

export class FakeEngine implements Engine {
  readonly containers = new Map<string, FakeContainer>();
  readonly images = new Set<string>(["busybox"]);
  /** Names of the calls so far, "start c1" and the like. */
  readonly calls: string[] = [];
  readonly #networks = new Map<string, { id: string; subnet: string }>();
  readonly #watchers = new Set<Watcher>();
  readonly #failures: { operation: Operation; error: ClusterError }[] = [];
  readonly #now: () => number;
  #away = false;
  #epoch = 1;
  #count = 0;
  #lastMs = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  // What tests do to it.

  /** The next call of that operation fails so. */
  failNext(operation: Operation, error: ClusterError): void {
    this.#failures.push({ operation, error });
  }

  /** Nothing answers until comeBack. */
  goAway(): void {
    this.#away = true;
  }

  /** `anew`: as another process, whose containers all died with it, with exit codes that are invented. */
  comeBack({ anew }: { anew: boolean }): void {
    this.#away = false;
    if (anew) {
      this.#epoch += 1;
      for (const container of this.containers.values())
        if (container.state.status === "running") this.#end(container, 137);
    }
    for (const { stream } of this.#watchers) stream.push({});
  }

  /** The container's process ends by itself. */
  exit(id: string, exitCode: number, oomKilled = false): void {
    const container = this.#get(id);
    this.#end(container, exitCode);
    container.state = { ...container.state, oomKilled };
    this.#tell(container);
  }

  setHealth(id: string, health: ContainerHealth): void {
    const container = this.#get(id);
    container.state = { ...container.state, health };
    this.#tell(container);
  }

  setUse(id: string, use: ContainerUse): void {
    this.#get(id).use = use;
  }

  /** Somebody removes it behind the agent's back. */
  snatch(id: string): void {
    const container = this.#get(id);
    this.containers.delete(container.state.id);
    this.#tell(container);
  }

  /** Somebody else's container. */
  addForeign(name: string): string {
    const id = this.#newId();
    const request = { name, labels: {} } as ContainerRequest;
    this.containers.set(id, {
      request,
      logs: [],
      stubborn: false,
      use: idle,
      state: { ...created(id, request), status: "running" },
    });
    return id;
  }

  running(): ContainerState[] {
    return [...this.containers.values()].map(({ state }) => state).filter(({ status }) => status === "running");
  }

  // The engine.

  async ping(): Promise<void> {
    await this.#enter("ping");
  }

  async info(): Promise<EngineInfo> {
    await this.#enter("info");
    return {
      version: "20.10.24",
      apiVersion: "1.41",
      os: "linux",
      architecture: "amd64",
      resources: { nanoCpus: 2e9, memoryBytes: 2 ** 33, generic: {} },
      labels: {},
      volumeDrivers: ["local"],
    };
  }

  async epoch(): Promise<string> {
    await this.#enter("epoch");
    return `life ${this.#epoch}`;
  }

  async ensureNetwork(request: { name: string; subnet: string }): Promise<{ id: string }> {
    await this.#enter("ensureNetwork", request.name);
    const found = this.#networks.get(request.name);
    if (found === undefined) {
      const made = { id: `network-${request.name}`, subnet: request.subnet };
      this.#networks.set(request.name, made);
      return { id: made.id };
    }
    if (found.subnet !== request.subnet)
      throw new ClusterError("failed_precondition", `network ${request.name} exists with subnet ${found.subnet}`);
    return { id: found.id };
  }

  async ensureImage(image: string, policy: "missing" | "always" | "never", signal: AbortSignal): Promise<void> {
    await this.#enter("ensureImage", image);
    signal.throwIfAborted();
    if (this.images.has(image)) return;
    if (policy === "never") throw new ClusterError("not_found", `No such image: ${image}`);
    throw new ClusterError("not_found", `pull ${image}: manifest unknown`);
  }

  async create(request: ContainerRequest): Promise<{ id: string }> {
    await this.#enter("create", request.name);
    for (const { state } of this.containers.values())
      if (state.name === request.name)
        throw new ClusterError("already_exists", `name ${request.name} is in use`, { details: { id: state.id } });
    if (!this.images.has(request.spec.image))
      throw new ClusterError("not_found", `No such image: ${request.spec.image}`);
    for (const { type, volumeDriver } of request.spec.mounts)
      if (type === MountType.VOLUME && !["", "local"].includes(volumeDriver))
        throw new ClusterError("not_found", `error looking up volume plugin ${volumeDriver}: not found`);
    const id = this.#newId();
    this.containers.set(id, { request, logs: [], stubborn: false, use: idle, state: created(id, request) });
    return { id };
  }

  async start(id: string): Promise<void> {
    await this.#enter("start", id);
    const container = this.#get(id);
    if (container.state.status === "running") return;
    const { request } = container;
    const before = container.state;
    const wanted = new Set(request.ports.map(fixedPort).filter((port) => port !== 0));
    for (const { hostPorts } of this.running())
      for (const { hostPort } of hostPorts)
        if (wanted.has(hostPort))
          throw new ClusterError(
            "failed_precondition",
            `Bind for 0.0.0.0:${hostPort} failed: port is already allocated`,
          );
    const hasCheck = request.spec.healthcheck !== undefined && request.spec.healthcheck.test[0] !== "NONE";
    container.state = {
      ...container.state,
      status: "running",
      startedAtMs: this.#moment(),
      exitCode: 0,
      oomKilled: false,
      health: hasCheck ? ContainerHealth.STARTING : ContainerHealth.NONE,
      address: `10.128.1.${this.#count + 1}`,
      hostPorts: request.ports.map((port, i) => ({
        protocol: port.protocol,
        targetPort: port.targetPort,
        hostPort: fixedPort(port) || 49_153 + this.#count * 10 + i,
      })),
    };
    try {
      this.#interpret(container);
    } catch (failure) {
      container.state = before;
      throw failure;
    }
    this.#tell(container);
  }

  async stop(id: string, _graceMs: number): Promise<void> {
    await this.#enter("stop", id);
    const container = this.containers.get(id);
    if (container?.state.status !== "running") return;
    this.#end(container, container.stubborn ? 137 : 143);
    this.#tell(container);
  }

  async remove(id: string): Promise<void> {
    await this.#enter("remove", id);
    const container = this.containers.get(id);
    if (container === undefined) return;
    this.containers.delete(id);
    this.#tell(container);
  }

  async inspect(id: string): Promise<ContainerState> {
    await this.#enter("inspect", id);
    return { ...this.#get(id).state };
  }

  async use(id: string): Promise<ContainerUse | undefined> {
    await this.#enter("use", id);
    const { state, use } = this.#get(id);
    return state.status === "running" ? { ...use } : undefined;
  }

  async list(labels: Record<string, string>): Promise<ContainerState[]> {
    await this.#enter("list");
    return [...this.containers.values()]
      .filter(({ state }) => carries(state, labels))
      .map(({ state }) => ({ ...state }));
  }

  async *events(labels: Record<string, string>, signal: AbortSignal): AsyncGenerator<EngineEvent, void, undefined> {
    const stream = new BoundedStream<EngineEvent>("fake events", 10_000);
    const watcher = { labels, stream };
    this.#watchers.add(watcher);
    const leave = () => stream.end();
    signal.addEventListener("abort", leave, { once: true });
    if (signal.aborted) leave();
    try {
      stream.push({});
      yield* stream;
    } finally {
      this.#watchers.delete(watcher);
      signal.removeEventListener("abort", leave);
    }
  }

  async *logs(id: string, request: LogRequest, signal: AbortSignal): AsyncGenerator<EngineLogLine, void, undefined> {
    const container = this.#get(id);
    const all = container.logs.filter(({ atMs }) => atMs >= (request.sinceMs ?? 0));
    yield* request.tail === undefined ? all : all.slice(all.length - Math.min(all.length, request.tail));
    if (request.follow && container.state.status === "running" && !signal.aborted) {
      let at = container.logs.length;
      const end = new BoundedStream<EngineEvent>("fake log", 10_000);
      const watcher = { labels: {}, stream: end };
      this.#watchers.add(watcher);
      signal.addEventListener("abort", () => end.end(), { once: true });
      try {
        for await (const _ of end) {
          yield* container.logs.slice(at);
          at = container.logs.length;
          if (container.state.status !== "running") return;
        }
      } finally {
        this.#watchers.delete(watcher);
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { stream } of this.#watchers) stream.end();
    await Promise.resolve();
  }

  async #enter(operation: Operation, on = ""): Promise<void> {
    this.calls.push(on === "" ? operation : `${operation} ${on}`);
    await Promise.resolve();
    if (this.#away) throw new ClusterError("unavailable", `${operation}: the engine does not answer`);
    const at = this.#failures.findIndex((failure) => failure.operation === operation);
    const [failure] = at < 0 ? [] : this.#failures.splice(at, 1);
    if (failure !== undefined) throw failure.error;
  }

  #get(id: string): FakeContainer {
    const container = this.containers.get(id);
    if (container === undefined) throw new ClusterError("not_found", `No such container: ${id}`);
    return container;
  }

  #newId(): string {
    this.#count += 1;
    return `c${this.#count}`;
  }

  /** Runs are told apart by when they began: no two at the same time, even if the clock stands still. */
  #moment(): number {
    this.#lastMs = Math.max(this.#now(), this.#lastMs + 1);
    return this.#lastMs;
  }

  #end(container: FakeContainer, exitCode: number): void {
    container.state = {
      ...container.state,
      status: "exited",
      exitCode,
      finishedAtMs: this.#moment(),
      address: "",
      hostPorts: [],
      health: ContainerHealth.NONE,
    };
  }

  #tell(container: FakeContainer): void {
    for (const { labels, stream } of this.#watchers)
      if (carries(container.state, labels)) stream.push({ id: container.state.id });
  }

  /** `sh -c` of echo, exit and sleep; what it does not know it refuses. */
  #interpret(container: FakeContainer): void {
    const { args } = container.request.spec;
    const script = args[0] === "sh" && args[1] === "-c" ? (args[2] ?? "") : args.join(" ");
    for (const command of script.split(";").map((part) => part.trim())) {
      const [, word, rest = ""] = /^(\S+)\s*(.*)$/.exec(command) ?? [];
      switch (word) {
        case undefined:
        case "sleep":
          if (word === "sleep") return;
          break;
        case "echo":
          container.logs.push(logLine(this.#moment(), rest));
          break;
        case "exit":
          this.#end(container, Number(rest));
          return;
        default:
          throw new ClusterError("invalid_argument", `exec: "${word}": executable file not found in $PATH`);
      }
    }
    this.#end(container, 0);
  }
}

/** What a container that does nothing uses. */
const idle: ContainerUse = { cpuNs: 1_000_000, memoryBytes: 1_000_000 };

/** The host port that a port insists on; 0 when any will do. */
function fixedPort({ mode, publishedPort }: ContainerRequest["ports"][number]): number {
  return mode === PublishMode.HOST ? publishedPort : 0;
}

function logLine(atMs: number, text: string): EngineLogLine {
  const toStderr = text.endsWith(" >&2");
  return {
    atMs,
    stream: toStderr ? "stderr" : "stdout",
    text: new TextEncoder().encode(toStderr ? text.slice(0, -" >&2".length) : text),
  };
}

function carries(state: ContainerState, labels: Record<string, string>): boolean {
  return Object.entries(labels).every(([name, value]) => state.labels[name] === value);
}

function created(id: string, request: ContainerRequest): ContainerState {
  return {
    id,
    name: request.name,
    labels: request.labels,
    status: "created",
    exitCode: 0,
    oomKilled: false,
    error: "",
    health: ContainerHealth.NONE,
    startedAtMs: 0,
    finishedAtMs: 0,
    address: "",
    hostPorts: [],
  };
}
