// The Engine over a Docker Engine's Unix socket.

import { stat } from "node:fs/promises";
import { type Clock, ClusterError, type Logger, type Rng, backoffMs, messageOf, sleep } from "../../../lib/mod.js";
import type {
  ContainerRequest,
  ContainerState,
  ContainerUse,
  Engine,
  EngineEvent,
  EngineInfo,
  EngineLogLine,
  LogRequest,
} from "../engine.js";
import { type Call, DockerApi } from "./api.js";
import { classifyPull, wordsOf } from "./errors.js";
import { Limit } from "./limit.js";
import { frames, logLines, rawEntries } from "./loglines.js";
import { ensureNetwork } from "./network.js";
import { jsonLines } from "./ndjson.js";
import { Pulls } from "./pull.js";
import { createBody } from "./spec.js";
import { type InspectAnswer, containerState } from "./state.js";
import { type Groups, type StatsAnswer, groupsOf, hostRoots, readUse, useOfStats } from "./use.js";

export interface DockerOptions {
  /** As DOCKER_HOST: unix:///run/docker.sock. */
  host: string;
  clock: Clock;
  rng: Rng;
  log: Logger;
  /** Called after every call, for metrics; `failed` is the error's code. */
  onCall?: (operation: string, ms: number, failed: string | undefined) => void;
}

const quickMs = 30_000;
/** Creating and starting move layers and namespaces; a loaded host is slow at both. */
const mutationMs = 120_000;
/** Stop may take this much longer than its grace: SIGKILL, then the engine's own waits. */
const stopMarginMs = 30_000;
const removingPollMs = 200;
const removingMs = 60_000;
/** Measured with 10 starts on one engine of 2 cores: 3 take 2.0 s, 8 take 1.65 s, 12 and more 1.55 s, as docker run. */
const mutationsAtOnce = 12;
/** Containers whose groups are remembered; beyond it all are looked for anew. */
const groupsMax = 10_000;
const reconnect = { firstMs: 100, maxMs: 2_000, jitter: 0.5 };
/** What changes what inspect says. */
const watched = ["create", "start", "die", "oom", "destroy", "pause", "unpause", "health_status"];

export class DockerEngine implements Engine {
  readonly #options: DockerOptions;
  readonly #api: DockerApi;
  readonly #pulls: Pulls;
  readonly #mutations = new Limit(mutationsAtOnce);
  /** Docker makes two networks of one name when asked twice at the same time. */
  readonly #networks = new Limit(1);
  /** By container; those that are gone leave when they are next read. */
  readonly #groups = new Map<string, Groups>();

  constructor(options: DockerOptions) {
    this.#options = options;
    this.#api = new DockerApi(socketPath(options.host), options.clock);
    this.#pulls = new Pulls(this.#api, options.clock);
  }

  async ping(): Promise<void> {
    await this.#timed("ping", () =>
      this.#api.askUnversioned({ ...get("/_ping", "ping the engine"), deadlineMs: 5_000 }),
    );
  }

  async info(): Promise<EngineInfo> {
    return await this.#timed("info", async () => {
      const info = (await this.#api.ask(get("/info", "ask about the engine"))) as {
        ServerVersion: string;
        OSType: string;
        NCPU: number;
        MemTotal: number;
        Labels: string[] | null;
        Plugins: { Volume: string[] | null } | null;
      };
      const version = (await this.#api.ask(get("/version", "ask the engine's version"))) as {
        ApiVersion: string;
        Arch: string;
      };
      return {
        version: info.ServerVersion,
        apiVersion: version.ApiVersion,
        os: info.OSType,
        architecture: version.Arch,
        resources: { nanoCpus: info.NCPU * 1e9, memoryBytes: info.MemTotal, generic: {} },
        labels: Object.fromEntries((info.Labels ?? []).map(splitLabel)),
        volumeDrivers: info.Plugins?.Volume ?? [],
      };
    });
  }

  async epoch(): Promise<string> {
    return await this.#timed("epoch", async () => {
      try {
        // The engine makes its own bridge anew at each start, unless containers lived on through the restart.
        const bridge = (await this.#api.ask(get("/networks/bridge", "ask the engine's own bridge"))) as { Id: string };
        return bridge.Id;
      } catch (failure) {
        if (!isCode(failure, "not_found")) throw failure;
        // An engine told to have no bridge: it opens its socket anew, too.
        const { ino, ctimeMs } = await stat(this.#api.socketPath);
        return `${ino}-${ctimeMs}`;
      }
    });
  }

  async ensureNetwork(request: {
    name: string;
    subnet: string;
    gateway: string;
    labels: Record<string, string>;
  }): Promise<{ id: string }> {
    return await this.#timed("network", () => this.#networks.run(() => ensureNetwork(this.#api, request)));
  }

  async ensureImage(
    image: string,
    policy: "missing" | "always" | "never",
    signal: AbortSignal,
    onProgress?: (words: string) => void,
  ): Promise<void> {
    await this.#timed("image", async () => {
      if (policy !== "always") {
        if (await this.#hasImage(image)) return;
        if (policy === "never")
          throw new ClusterError("not_found", `No such image: ${image} (its pull policy is never)`);
      }
      await this.#pulls.pull(image, signal, onProgress);
    });
  }

  async create(request: ContainerRequest): Promise<{ id: string }> {
    return await this.#timed("create", async () => {
      try {
        const answer = await this.#mutations.run(() =>
          this.#api.ask({
            ...post("/containers/create", `create container ${request.name}`, mutationMs),
            query: { name: request.name },
            body: createBody(request),
          }),
        );
        return { id: (answer as { Id: string }).Id };
      } catch (failure) {
        if (!isCode(failure, "conflict")) throw failure;
        const holder = await this.#idOf(request.name);
        throw new ClusterError("already_exists", messageOf(failure), { cause: failure, details: { id: holder } });
      }
    });
  }

  async start(id: string): Promise<void> {
    await this.#timed("start", () =>
      this.#mutations.run(() =>
        this.#api.ask(post(`/containers/${id}/start`, `start container ${short(id)}`, mutationMs)),
      ),
    );
  }

  async stop(id: string, graceMs: number): Promise<void> {
    const call: Call = {
      ...post(`/containers/${id}/stop`, `stop container ${short(id)}`, graceMs + stopMarginMs),
      query: { t: String(Math.ceil(graceMs / 1000)) },
    };
    await this.#timed("stop", async () => {
      try {
        await this.#api.ask(call);
      } catch (failure) {
        if (isCode(failure, "not_found")) return;
        // The engine lost the exit in between; asked again it sees it.
        if (!/did not receive an exit event/.test(messageOf(failure))) throw failure;
        await this.#api.ask(call).catch(allow("not_found"));
      }
    });
  }

  async remove(id: string): Promise<void> {
    await this.#timed("remove", async () => {
      const call: Call = {
        ...post(`/containers/${id}`, `remove container ${short(id)}`, mutationMs),
        method: "DELETE",
        query: { force: "true", v: "true" },
      };
      try {
        await this.#mutations.run(() => this.#api.ask(call));
      } catch (failure) {
        if (isCode(failure, "not_found")) return;
        if (!isCode(failure, "conflict")) throw failure;
        await this.#untilGone(id);
      }
    });
  }

  async inspect(id: string): Promise<ContainerState> {
    return await this.#timed("inspect", async () => containerState(await this.#inspect(id)));
  }

  async use(id: string): Promise<ContainerUse | undefined> {
    const known = this.#groups.get(id);
    if (known !== undefined) {
      try {
        return await readUse(known);
      } catch {
        // Gone with the container, or made anew elsewhere at its next start: below it is looked for again.
        this.#groups.delete(id);
      }
    }
    return await this.#timed("use", () => this.#findUse(id));
  }

  async #findUse(id: string): Promise<ContainerUse | undefined> {
    const { Id, State: state } = await this.#inspect(id);
    if (state.Pid === 0 || state.Status !== "running") return undefined;
    try {
      const groups = await groupsOf({ id: Id, pid: state.Pid }, hostRoots);
      if (groups !== undefined) {
        const use = await readUse(groups);
        if (this.#groups.size >= groupsMax) this.#groups.clear();
        this.#groups.set(id, groups);
        return use;
      }
    } catch (failure) {
      this.#options.log.debug({ container: id, error: messageOf(failure) }, "its groups cannot be read");
    }
    const call = get(`/containers/${id}/stats`, `ask what container ${short(id)} uses`);
    return useOfStats(
      (await this.#api.ask({ ...call, query: { stream: "false", "one-shot": "true" } })) as StatsAnswer,
    );
  }

  async list(labels: Record<string, string>): Promise<ContainerState[]> {
    return await this.#timed("list", async () => {
      const rows = (await this.#api.ask({
        ...get("/containers/json", "list containers"),
        query: { all: "true", filters: JSON.stringify({ label: labelFilter(labels) }) },
      })) as { Id: string }[];
      const states = await Promise.all(
        rows.map(({ Id }) =>
          this.#inspect(Id).catch((failure: unknown) => {
            // Removed since the list was made.
            if (isCode(failure, "not_found")) return undefined;
            throw failure;
          }),
        ),
      );
      return states.filter((state) => state !== undefined).map(containerState);
    });
  }

  async *events(labels: Record<string, string>, signal: AbortSignal): AsyncGenerator<EngineEvent, void, undefined> {
    const { clock, rng, log } = this.#options;
    const filters = JSON.stringify({ type: ["container"], event: watched, label: labelFilter(labels) });
    let failures = 0;
    while (!signal.aborted) {
      try {
        const chunks = await this.#api.open({
          ...get("/events", "watch the engine's events"),
          query: { filters },
          kind: "stream",
          signal,
        });
        failures = 0;
        // From here on nothing is missed: what happened before is seen by looking at all.
        yield {};
        const skip = (line: string) => log.warn({ line }, "an engine event is not JSON: skipped");
        for await (const event of jsonLines(chunks, skip)) {
          const id = (event as { Actor?: { ID?: string } }).Actor?.ID;
          yield id === undefined ? {} : { id };
        }
      } catch (failure) {
        if (signal.aborted) return;
        log.debug({ error: messageOf(failure) }, "the engine's event stream failed");
      }
      if (signal.aborted) return;
      failures += 1;
      if (failures === 1) {
        log.warn("the engine's event stream ended: connecting again");
        await this.ping().catch((failure: unknown) => this.#api.interrupt(messageOf(failure)));
      }
      try {
        await sleep(clock, backoffMs(reconnect, failures, rng), signal);
      } catch {
        // The signal: the reader has left.
        return;
      }
    }
  }

  async *logs(id: string, request: LogRequest, signal: AbortSignal): AsyncGenerator<EngineLogLine, void, undefined> {
    const { Config: config } = await this.#inspect(id);
    const chunks = await this.#api.open({
      ...get(`/containers/${id}/logs`, `read the logs of container ${short(id)}`),
      query: {
        stdout: "true",
        stderr: "true",
        timestamps: "true",
        follow: String(request.follow),
        tail: request.tail === undefined ? "all" : String(request.tail),
        ...(request.sinceMs === undefined ? {} : { since: (request.sinceMs / 1000).toFixed(3) }),
      },
      kind: "stream",
      signal,
    });
    yield* logLines(config.Tty ? rawEntries(chunks) : frames(chunks));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#api[Symbol.asyncDispose]();
  }

  async #inspect(id: string): Promise<InspectAnswer> {
    return (await this.#api.ask(
      get(`/containers/${encodeURIComponent(id)}/json`, `inspect container ${short(id)}`),
    )) as InspectAnswer;
  }

  async #idOf(name: string): Promise<string> {
    try {
      return (await this.#inspect(name)).Id;
    } catch (failure) {
      // Gone in the meantime: the caller's next try will find the name free.
      if (isCode(failure, "not_found")) return "";
      throw failure;
    }
  }

  async #hasImage(image: string): Promise<boolean> {
    const name = image.split("/").map(encodeURIComponent).join("/");
    try {
      await this.#api.ask(get(`/images/${name}/json`, `look for image ${image}`));
      return true;
    } catch (failure) {
      if (isCode(failure, "not_found")) return false;
      if (isCode(failure, "invalid_argument"))
        throw classifyPull(wordsOf((failure as Error).cause ?? failure), image, failure);
      throw failure;
    }
  }

  /** Another removal is under way, or the container is dead: wait for its end, pushing now and then. */
  async #untilGone(id: string): Promise<void> {
    const { clock } = this.#options;
    const until = clock.monotonic() + removingMs;
    const again: Call = {
      ...post(`/containers/${id}`, `remove container ${short(id)}`, mutationMs),
      method: "DELETE",
      query: { force: "true", v: "true" },
    };
    while (clock.monotonic() < until) {
      await sleep(clock, removingPollMs);
      try {
        const { State: state } = await this.#inspect(id);
        if (state.Status !== "removing") await this.#api.ask(again);
      } catch (failure) {
        if (isCode(failure, "not_found")) return;
        if (!isCode(failure, "conflict")) throw failure;
      }
    }
    throw new ClusterError("deadline_exceeded", `remove container ${short(id)}: still there after ${removingMs} ms`);
  }

  async #timed<T>(operation: string, work: () => Promise<T>): Promise<T> {
    const { clock, onCall } = this.#options;
    if (onCall === undefined) return await work();
    const from = clock.monotonic();
    try {
      const result = await work();
      onCall(operation, clock.monotonic() - from, undefined);
      return result;
    } catch (failure) {
      onCall(operation, clock.monotonic() - from, failure instanceof ClusterError ? failure.code : "internal");
      throw failure;
    }
  }
}

/** The path in a unix:// address. */
export function socketPath(host: string): string {
  const path = /^unix:\/\/(\/.+)$/.exec(host)?.[1];
  if (path !== undefined) return path;
  throw ClusterError.invalid([
    {
      field: "docker",
      value: host,
      rule: "must be the engine's Unix socket as unix:// and an absolute path",
      fix: "write for example unix:///run/docker.sock",
    },
  ]);
}

function get(path: string, what: string): Call {
  return { method: "GET", path, kind: "quick", deadlineMs: quickMs, what };
}

function post(path: string, what: string, deadlineMs: number): Call {
  return { method: "POST", path, kind: "long", deadlineMs, what };
}

function short(id: string): string {
  return /^[0-9a-f]{64}$/.test(id) ? id.slice(0, 12) : id;
}

function labelFilter(labels: Record<string, string>): string[] {
  return Object.entries(labels).map(([name, value]) => `${name}=${value}`);
}

function splitLabel(label: string): [string, string] {
  const at = label.indexOf("=");
  return at < 0 ? [label, ""] : [label.slice(0, at), label.slice(at + 1)];
}

function isCode(failure: unknown, code: ClusterError["code"]): boolean {
  return failure instanceof ClusterError && failure.code === code;
}

function allow(code: ClusterError["code"]): (failure: unknown) => void {
  return (failure) => {
    if (!isCode(failure, code)) throw failure;
  };
}
