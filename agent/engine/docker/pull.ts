// Pulls: one at a time per image however many tasks want it, ended when nobody wants it any more, given up when the
// registry stalls. The engine answers 200 and tells failures in the stream.

import { type Clock, ClusterError } from "../../../lib/mod.js";
import type { DockerApi } from "./api.js";
import { classifyPull, wordsOf } from "./errors.js";
import { jsonLines } from "./ndjson.js";

/** A pull that says nothing for so long is given up: its caller decides about another try. */
const inactivityMs = 60_000;

interface PullLine {
  status?: string;
  id?: string;
  error?: string;
  errorDetail?: { message?: string };
}

interface Running {
  done: Promise<void>;
  controller: AbortController;
  listeners: Set<(words: string) => void>;
}

export class Pulls {
  readonly #api: DockerApi;
  readonly #clock: Clock;
  readonly #running = new Map<string, Running>();

  constructor(api: DockerApi, clock: Clock) {
    this.#api = api;
    this.#clock = clock;
  }

  async pull(image: string, signal: AbortSignal, onProgress?: (words: string) => void): Promise<void> {
    signal.throwIfAborted();
    const running = this.#running.get(image) ?? this.#begin(image);
    const listener = onProgress ?? (() => undefined);
    running.listeners.add(listener);
    try {
      await new Promise<void>((resolve, reject) => {
        const leave = () => reject(signal.reason as Error);
        signal.addEventListener("abort", leave, { once: true });
        running.done.then(resolve, reject).finally(() => signal.removeEventListener("abort", leave));
      });
    } finally {
      running.listeners.delete(listener);
      if (running.listeners.size === 0)
        running.controller.abort(new ClusterError("cancelled", `pull ${image}: not wanted`));
    }
  }

  #begin(image: string): Running {
    const controller = new AbortController();
    const listeners = new Set<(words: string) => void>();
    const tell = (words: string) => {
      for (const listener of listeners) listener(words);
    };
    const done = this.#pull(image, controller, tell).finally(() => {
      if (this.#running.get(image) === running) this.#running.delete(image);
    });
    const running: Running = { done, controller, listeners };
    this.#running.set(image, running);
    // A late-comer must not join a pull that is being cancelled.
    controller.signal.addEventListener("abort", () => {
      if (this.#running.get(image) === running) this.#running.delete(image);
    });
    return running;
  }

  async #pull(image: string, controller: AbortController, tell: (words: string) => void): Promise<void> {
    const stalled = new ClusterError("unavailable", `pull ${image}: no progress for ${inactivityMs} ms`, {
      details: { source: "registry" },
    });
    let cancel = this.#clock.after(inactivityMs, () => controller.abort(stalled));
    try {
      const chunks = await this.#api.open({
        method: "POST",
        path: "/images/create",
        query: reference(image),
        kind: "stream",
        // The engine sends headers with the first progress, after the registry's first answer.
        deadlineMs: inactivityMs * 2,
        what: `pull ${image}`,
        signal: controller.signal,
      });
      for await (const line of jsonLines(chunks, () => undefined)) {
        cancel();
        cancel = this.#clock.after(inactivityMs, () => controller.abort(stalled));
        const { status, id, error, errorDetail } = line as PullLine;
        const failure = errorDetail?.message ?? error;
        if (failure !== undefined) throw classifyPull(failure, image);
        if (status !== undefined) tell(id === undefined ? status : `${status} ${id}`);
      }
      controller.signal.throwIfAborted();
    } catch (failure) {
      if (controller.signal.aborted) throw controller.signal.reason;
      if (failure instanceof ClusterError && failure.cause === undefined) throw failure;
      if (failure instanceof ClusterError && (failure.code === "unavailable" || failure.code === "deadline_exceeded"))
        throw failure;
      // An error with a cause is an answer of the engine's: the cause has its words.
      throw classifyPull(wordsOf(failure instanceof Error ? failure.cause : failure), image, failure);
    } finally {
      cancel();
    }
  }
}

/** The tag goes apart, and always: without one the engine would pull every tag there is. */
export function reference(image: string): { fromImage: string; tag: string } {
  const digestAt = image.indexOf("@");
  if (digestAt >= 0)
    return { fromImage: image.slice(0, digestAt).replace(/:[^:/]*$/, ""), tag: image.slice(digestAt + 1) };
  const tagAt = image.lastIndexOf(":");
  // A colon before the last slash is a registry's port.
  if (tagAt > image.lastIndexOf("/")) return { fromImage: image.slice(0, tagAt), tag: image.slice(tagAt + 1) };
  return { fromImage: image, tag: "latest" };
}
