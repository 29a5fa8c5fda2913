// The agent's stream: updates are applied one after another, the newest stream wins, and what became of them goes back
// with the connections of draining endpoints and whatever is wrong.

import { type ServerDuplexStream, type UntypedServiceImplementation, status } from "@grpc/grpc-js";
import { type Clock, type Logger, messageOf } from "../../lib/mod.js";
import {
  type AmbassadorServer,
  AmbassadorService,
  type Carried,
  type SteerRequest,
  type SteerResponse,
} from "../../proto/gen/flotilla/ambassador/v1/ambassador.js";
import type { RouteUpdate } from "../routes/mod.js";

/** Changes within this time go back in one message. */
const coalesceMs = 10;
/** What endpoints were given is told so often. */
const carriedEveryMs = 15_000;

type Call = ServerDuplexStream<SteerRequest, SteerResponse>;

/** What is steered. */
export interface Steered {
  readonly table: {
    readonly host: unknown;
    drains(): { taskId: string; activeConnections: number }[];
    takeCarried(): Carried;
  };
  apply(update: RouteUpdate): Promise<void>;
  problems(): string[];
  onDrain(fn: () => void): () => void;
  onProblems(fn: () => void): () => void;
}

export class Steering {
  readonly #ambassador: Steered;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #applied: () => void;
  #end: ((code: status, message: string) => void) | undefined;
  /** Updates of all streams, in order. */
  #queue: Promise<void> = Promise.resolve();

  constructor(options: { ambassador: Steered; clock: Clock; log: Logger; applied: () => void }) {
    this.#ambassador = options.ambassador;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#applied = options.applied;
  }

  get service(): { definition: typeof AmbassadorService; implementation: UntypedServiceImplementation } {
    const implementation: AmbassadorServer = { steer: (call) => this.#steer(call) };
    return { definition: AmbassadorService, implementation };
  }

  /** Ends the stream there is. */
  close(): void {
    this.#end?.(status.UNAVAILABLE, "the ambassador is stopping");
  }

  #steer(call: Call): void {
    this.#end?.(status.ABORTED, "a newer stream took over");
    let over = false;
    let first = true;
    let appliedSequence = 0;
    let cancelTimer: (() => void) | undefined;
    let blocked = false;
    let owed = false;
    let carried: Carried | undefined;

    const respond = () => {
      cancelTimer?.();
      cancelTimer = undefined;
      if (over || first) return;
      // A reader that is slow gets the newest state once it reads again, not every state between.
      if (blocked) {
        owed = true;
        return;
      }
      const { table } = this.#ambassador;
      blocked = !call.write({
        appliedSequence,
        drains: table.drains(),
        problems: this.#ambassador.problems(),
        carried,
      });
      carried = undefined;
    };
    const count = () => {
      cancelCount = this.#clock.after(carriedEveryMs, count);
      // A reader that is slow has not even had the one before: what is counted meanwhile goes into the next.
      if (first || blocked) return;
      carried = this.#ambassador.table.takeCarried();
      respond();
    };
    let cancelCount = this.#clock.after(carriedEveryMs, count);
    const soon = () => {
      if (!over && cancelTimer === undefined) cancelTimer = this.#clock.after(coalesceMs, respond);
    };
    const offDrain = this.#ambassador.onDrain(soon);
    const offProblems = this.#ambassador.onProblems(soon);
    const finish = () => {
      if (over) return;
      over = true;
      cancelTimer?.();
      cancelCount();
      offDrain();
      offProblems();
      if (this.#end === end) this.#end = undefined;
    };
    const end = (code: status, message: string) => {
      finish();
      if (code === status.OK) call.end();
      else call.emit("error", { code, details: message });
    };
    this.#end = end;

    const take = async (request: SteerRequest): Promise<void> => {
      if (over) return;
      if (first && !request.complete) {
        end(status.INVALID_ARGUMENT, "the first message of a stream must be complete");
        return;
      }
      if (request.host === undefined && this.#ambassador.table.host === undefined) {
        end(status.INVALID_ARGUMENT, "the first message must carry the host's configuration");
        return;
      }
      await this.#ambassador.apply(request);
      this.#applied();
      if (first) this.#log.info({ routes: request.routes.length }, "agent connected");
      first = false;
      appliedSequence = request.sequence;
      respond();
    };

    call.on("drain", () => {
      blocked = false;
      if (owed) {
        owed = false;
        respond();
      }
    });
    call.on("data", (request: SteerRequest) => {
      // One at a time: what the agent sends meanwhile waits in its own buffers.
      call.pause();
      this.#queue = this.#queue
        .then(() => take(request))
        .catch((failure: unknown) => {
          this.#log.error({ error: messageOf(failure) }, "update failed");
          end(status.INTERNAL, messageOf(failure));
        })
        .finally(() => call.resume());
    });
    call.on("end", () => {
      // After what is still being applied.
      this.#queue = this.#queue.then(() => {
        if (!over) end(status.OK, "");
      });
    });
    call.on("cancelled", () => {
      this.#log.info("agent gone: the last routes stay in force");
      finish();
    });
    call.on("error", finish);
  }
}
