// Brings what etcd holds into the replica: all of it once, page by page at one revision, and from then on by a watch
// of our own. A watch goes on from the last revision that is in, whatever stream or member it comes from; etcd3's
// own goes on from the header's revision, which can skip events while it catches up.

import {
  type Clock,
  ClusterError,
  type Logger,
  type Rng,
  backoffMs,
  messageOf,
  pause,
  toClusterError,
} from "../../../lib/mod.js";
import type { IKeyValue, IRangeRequest, IRangeResponse, IWatchRequest, IWatchResponse } from "etcd3";
import { CallFailure, type EtcdClient } from "./client.js";
import type { Keys } from "./keys.js";
import type { Entry, Replica } from "./replica.js";

/** Keys per page at first; halved when a page of large objects does not fit into one answer. */
const pageKeys = 2_000;
/** The longest that one page, or opening a stream, may take, over all endpoints. */
const readBudgetMs = 5_000;
/** How often etcd is asked for its newest revision, and the stream whether it has come that far. */
const probeEveryMs = 1_000;
/** The longest that the answer to such a probe may take over all endpoints. */
const probeBudgetMs = 3_500;
/** How long a stream may take to show a revision that etcd is known to have reached. */
const streamBehindMsMax = 3_000;
const retryBackoff = { firstMs: 50, maxMs: 2_000, jitter: 0.5 };

export interface FeedOptions {
  client: EtcdClient;
  replica: Replica;
  keys: Keys;
  clock: Clock;
  rng: Rng;
  log: Logger;
}

/** What the store says of itself; each change is told to `onChange`. */
export interface FeedState {
  /** Whether the view has been complete once. */
  loaded: boolean;
  /** Whether a quorum answered when last asked. */
  quorum: boolean;
  /** Whether the view follows what etcd does. */
  following: boolean;
  /** What is wrong, empty when nothing is. */
  message: string;
  /** Whether it is no use waiting: what etcd holds is not ours to use. */
  refused: boolean;
}

export class Feed {
  readonly #options: FeedOptions;
  readonly #onChange: () => void;
  #state: FeedState = { loaded: false, quorum: false, following: false, message: "etcd: loading", refused: false };
  /** The newest revision that etcd is known to have. */
  #newest = 0;
  /** Asks the stream, if there is one, whether it has come as far as `#newest`. */
  #askStream: (() => void) | undefined;
  /** Why what etcd holds cannot be used; empty when it can. */
  #contentRefusal = "";
  #watchLost = "";

  constructor(options: FeedOptions, onChange: () => void) {
    this.#options = options;
    this.#onChange = onChange;
  }

  get state(): Readonly<FeedState> {
    return this.#state;
  }

  /** Loads and follows until the signal aborts. Never throws. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, rng, log, replica } = this.#options;
    let failures = 0;
    let load = true;
    while (!signal.aborted) {
      try {
        if (load) {
          await this.#load(signal);
          load = false;
          this.#contentRefusal = "";
          this.#set({ loaded: true, quorum: true });
        }
        const before = replica.applied;
        const ended = await this.#follow(signal);
        // The first new stream comes at once; one after another without an event between them does not.
        failures = ended.heard || replica.applied > before ? 0 : failures + 1;
        if (ended.why === "compacted") {
          log.warn({ revision: replica.applied }, "etcd has compacted what was missed: loading all again");
          load = true;
        } else if (!signal.aborted) log.info({ reason: ended.why }, "etcd watch ended: opening another");
      } catch (error) {
        if (signal.aborted) break;
        failures += 1;
        if (isRefusal(error)) {
          // What etcd holds has to be put right by hand: only a whole load shows that it was.
          this.#contentRefusal = messageOf(error);
          load = true;
        }
        this.#failed(error);
        if (failures === 1) log.warn({ error: messageOf(error) }, "etcd cannot be read");
      }
      if (failures > 0 && !signal.aborted) await pause(clock, backoffMs(retryBackoff, failures, rng), signal);
    }
  }

  /** Asks for the newest revision again and again, so that a lost quorum is known before anybody writes. */
  async probe(signal: AbortSignal): Promise<void> {
    const { client, clock, keys } = this.#options;
    while (!signal.aborted) {
      try {
        const answer = await client.range({ key: keys.names, keys_only: true }, probeBudgetMs, signal);
        this.#newest = Number(answer.header.revision);
        this.#askStream?.();
        if (!this.#state.quorum) this.#set({ quorum: true });
      } catch (error) {
        if (!signal.aborted) this.#failed(error);
      }
      await pause(clock, probeEveryMs, signal);
    }
  }

  /** Why the view follows nothing now; of the last stream's end. */
  get watchLost(): string {
    return this.#watchLost;
  }

  /** For the writer: it found out that nobody answers. */
  lostQuorum(error: unknown): void {
    this.#failed(error);
  }

  #failed(error: unknown): void {
    this.#set({ quorum: false, message: messageOf(error), refused: isRefusal(error) });
  }

  #set(change: Partial<FeedState>): void {
    const { log } = this.#options;
    const before = this.#state;
    this.#state = { ...before, ...change };
    // A quorum that answers takes back whatever its absence had been called, but not what is wrong with what it holds.
    if (change.quorum === true) {
      this.#state.refused = this.#contentRefusal !== "";
      this.#state.message = this.#contentRefusal;
    }
    const wasReady = before.loaded && before.quorum && !before.refused;
    const isReady = this.#state.loaded && this.#state.quorum && !this.#state.refused;
    if (wasReady && !isReady) log.error({ reason: this.#state.message }, "etcd lost: writes are refused");
    if (!wasReady && isReady) log.info({ revision: this.#options.replica.applied }, "etcd ready");
    this.#onChange();
  }

  async #load(signal: AbortSignal): Promise<void> {
    const { keys, log, replica, clock } = this.#options;
    const startedMs = clock.monotonic();
    const entries: Entry[] = [];
    let revision = 0;
    let limit = pageKeys;
    let from = keys.first;
    for (;;) {
      let page: IRangeResponse;
      try {
        page = await this.#page({ key: from, range_end: keys.end, limit, revision }, signal);
      } catch (failure) {
        if (!(failure instanceof CallFailure && failure.tooLarge && limit > 1)) throw failure;
        limit = Math.ceil(limit / 2);
        continue;
      }
      // Every page is of the first one's revision: together they are one moment.
      if (revision === 0) revision = Number(page.header.revision);
      for (const kv of page.kvs) entries.push(entryOf(kv));
      const last = page.kvs.at(-1);
      if (!page.more || last === undefined) break;
      from = Buffer.concat([last.key, Buffer.from([0])]);
    }
    replica.reset(revision, entries);
    log.info(
      { revision, keys: entries.length, ms: Math.round(clock.monotonic() - startedMs) },
      "loaded everything from etcd",
    );
  }

  async #page(request: IRangeRequest, signal: AbortSignal): Promise<IRangeResponse> {
    return await this.#options.client.range(request, readBudgetMs, signal);
  }

  /** One stream, from the first revision that is not in, to its end. */
  async #follow(signal: AbortSignal): Promise<{ why: string; heard: boolean }> {
    const { client, clock, keys, replica, log } = this.#options;
    const request: IWatchRequest = {
      create_request: {
        key: keys.first,
        range_end: keys.end,
        start_revision: replica.applied + 1,
        progress_notify: true,
        // Large revisions come in parts: an answer stays within what a message may be.
        fragment: true,
      },
    };
    const { endpoint, stream } = await client.watch(request, clock.monotonic() + readBudgetMs, signal);
    let heard = false;
    let heardRevision = 0;
    const assembly = new RevisionAssembly((revision, entries) => replica.apply(revision, entries));
    return await new Promise<{ why: string; heard: boolean }>((resolve, reject) => {
      let cancelTimer: (() => void) | undefined;
      const end = (why: string, error?: Error) => {
        cancelTimer?.();
        signal.removeEventListener("abort", onAbort);
        this.#askStream = undefined;
        // Late errors of a stream that is given up have nobody left to tell.
        stream.on("error", () => undefined);
        stream.cancel();
        if (this.#state.following)
          this.#set({
            following: false,
            ...(this.#state.message === "" ? { message: `etcd: watch lost: ${why}` } : {}),
          });
        if (error === undefined) resolve({ why, heard });
        else reject(error);
      };
      const onAbort = () => end("closing");
      signal.addEventListener("abort", onAbort, { once: true });
      this.#askStream = () => {
        const expected = this.#newest;
        if (heardRevision >= expected || cancelTimer !== undefined) return;
        stream.write({ progress_request: {} });
        cancelTimer = clock.after(streamBehindMsMax, () => {
          cancelTimer = undefined;
          if (heardRevision >= expected) return;
          const why = `${endpoint}: the stream shows revision ${heardRevision} while etcd is at ${expected}`;
          client.avoid(endpoint, why);
          end(why);
        });
      };
      stream.on("data", (response: IWatchResponse) => {
        if (signal.aborted) return;
        try {
          client.checkStream(endpoint, response.header);
          if (Number(response.compact_revision) > 0) {
            end("compacted");
            return;
          }
          if (response.canceled) {
            client.avoid(endpoint, `watch cancelled: ${response.cancel_reason}`);
            end(`${endpoint}: cancelled: ${response.cancel_reason}`);
            return;
          }
          assembly.add(response);
          heardRevision = Math.max(heardRevision, Number(response.header.revision));
          if (heardRevision >= this.#newest) {
            cancelTimer?.();
            cancelTimer = undefined;
          }
          heard = true;
          if (!this.#state.following) this.#set({ following: true, ...(this.#state.quorum ? { message: "" } : {}) });
        } catch (error) {
          log.error({ endpoint, error: messageOf(error) }, "etcd sent what cannot be applied");
          client.avoid(endpoint, messageOf(error));
          end("not applicable", toClusterError(error));
        }
      });
      stream.on("error", (error) => {
        client.avoid(endpoint, messageOf(error));
        end(`${endpoint}: ${messageOf(error)}`);
      });
      stream.on("end", () => end(`${endpoint}: the server ended the stream`));
      // It may have aborted while the stream was being opened.
      if (signal.aborted) onAbort();
    });
  }
}

function isRefusal(error: unknown): boolean {
  return error instanceof ClusterError && error.code === "failed_precondition";
}

/** Puts the events of a stream together into whole revisions; only the newest one can be incomplete. */
export class RevisionAssembly {
  readonly #whole: (revision: number, entries: readonly Entry[]) => void;
  #revision = 0;
  /** By key: a repeated event is one. */
  #entries = new Map<string, Entry>();

  constructor(whole: (revision: number, entries: readonly Entry[]) => void) {
    this.#whole = whole;
  }

  add(response: Pick<IWatchResponse, "events" | "fragment">): void {
    for (const event of response.events) {
      const revision = Number(event.kv.mod_revision);
      // Older than what was begun: a repetition. Everything up to there has been passed on.
      if (revision < this.#revision) continue;
      if (revision > this.#revision) this.#flush();
      this.#revision = revision;
      const entry = entryOf(event.kv);
      this.#entries.set(entry.key.toString("latin1"), event.type === "Delete" ? { ...entry, value: undefined } : entry);
    }
    if (!response.fragment) this.#flush();
  }

  #flush(): void {
    if (this.#entries.size === 0) return;
    const entries = [...this.#entries.values()];
    this.#entries = new Map();
    this.#whole(this.#revision, entries);
  }
}

function entryOf(kv: IKeyValue): Entry {
  return { key: kv.key, value: kv.value, modRevision: Number(kv.mod_revision) };
}
