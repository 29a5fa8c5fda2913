// The last known routes on disk, so that an ambassador that starts while agent and managers are away serves at once.

import { createHash } from "node:crypto";
import { open, readFile, rename } from "node:fs/promises";
import { type Clock, type Logger, messageOf } from "../../lib/mod.js";
import { SteerRequest } from "../../proto/gen/flotilla/ambassador/v1/ambassador.js";

const magic = Buffer.from("flotilla-routes-1\n", "latin1");
const digestBytes = 32;
const debounceMs = 200;

function digest(body: Uint8Array): Buffer {
  return createHash("sha256").update(body).digest();
}

/** The bytes of a file with these routes. */
export function encodeSaved(state: SteerRequest): Buffer {
  const body = SteerRequest.encode(state).finish();
  return Buffer.concat([magic, digest(body), body]);
}

/** What a file holds; undefined when it is not one of ours, or was cut or changed. */
export function decodeSaved(file: Buffer): SteerRequest | undefined {
  const start = magic.length + digestBytes;
  if (file.length < start || !file.subarray(0, magic.length).equals(magic)) return undefined;
  const body = file.subarray(start);
  return digest(body).equals(file.subarray(magic.length, start)) ? SteerRequest.decode(body) : undefined;
}

export async function loadSaved(path: string, log: Logger): Promise<SteerRequest | undefined> {
  try {
    const saved = decodeSaved(await readFile(path));
    if (saved === undefined) log.warn({ path }, "saved routes are damaged: waiting for the agent's");
    return saved;
  } catch (failure) {
    if ((failure as NodeJS.ErrnoException).code !== "ENOENT")
      log.warn({ path, error: messageOf(failure) }, "saved routes cannot be read: waiting for the agent's");
    return undefined;
  }
}

/** Writes the newest state some time after it changed, whole or not at all. */
export class RouteSaver {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #state: () => SteerRequest | undefined;
  #cancel: (() => void) | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(options: { path: string; clock: Clock; log: Logger; state: () => SteerRequest | undefined }) {
    this.#path = options.path;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#state = options.state;
  }

  changed(): void {
    this.#cancel ??= this.#clock.after(debounceMs, () => {
      this.#cancel = undefined;
      this.#writing = this.#writing.then(() => this.#write());
    });
  }

  /** Writes what is still to be written. */
  async flush(): Promise<void> {
    if (this.#cancel !== undefined) {
      this.#cancel();
      this.#cancel = undefined;
      this.#writing = this.#writing.then(() => this.#write());
    }
    await this.#writing;
  }

  async #write(): Promise<void> {
    const state = this.#state();
    if (state === undefined) return;
    try {
      const next = `${this.#path}.next`;
      const file = await open(next, "w", 0o600);
      try {
        await file.writeFile(encodeSaved(state));
        await file.datasync();
      } finally {
        await file.close();
      }
      await rename(next, this.#path);
    } catch (failure) {
      // The routes are in force all the same; only a restart without an agent would miss them.
      this.#log.error({ path: this.#path, error: messageOf(failure) }, "routes cannot be saved");
    }
  }
}
