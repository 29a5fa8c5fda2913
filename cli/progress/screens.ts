// How progress looks: in place on a terminal, a line per change elsewhere, JSON lines for programs, or nothing.

import type { Io } from "../io.js";
import { clip, plain, safeJson } from "../screen/text.js";
import type { ProgressView, SlotView } from "./view.js";

export interface Frame {
  service: string;
  revision: number;
  view: ProgressView;
  /** What is being waited for beyond the bars, as "watching the new tasks"; empty when nothing is. */
  verify: string;
}

export interface FailedTask {
  task: string;
  id: string;
  node: string;
  error: string;
  /** Its last lines, oldest first. */
  logs: string[];
  /** Why there are none; empty when there are. */
  noLogs: string;
}

export interface ProgressScreen {
  update(frame: Frame): void;
  failed(task: FailedTask): void;
  say(text: string): void;
  /** Leaves the last frame as it is. */
  end(): void;
}

export const progressModes = ["tty", "plain", "json", "quiet"] as const;
export type ProgressMode = (typeof progressModes)[number];

/** Above this many slots only totals are shown. */
const barsMax = 20;
/** A terminal is redrawn at most this often. */
const redrawMs = 100;

export function screenFor(mode: ProgressMode, io: Io): ProgressScreen {
  switch (mode) {
    case "tty":
      return new TtyScreen(io);
    case "plain":
      return new PlainScreen(io);
    case "json":
      return new JsonScreen(io);
    case "quiet":
      return { update: () => undefined, failed: () => undefined, say: () => undefined, end: () => undefined };
  }
}

export function overall({ view: { done, total, job } }: Frame): string {
  if (job !== undefined) return `job progress: ${done} out of ${total} complete`;
  return `overall progress: ${done} out of ${total} tasks`;
}

/** "1/5", or the node where slots are the nodes'. */
function labelOf({ slot, label }: SlotView, total: number): string {
  return label === undefined || label === "" ? `${slot}/${total}` : label;
}

/** `1/5: running   [=========>] h2` */
export function bar(slot: SlotView, total: number, stateWidth = 9, labelWidth = `${total}/${total}:`.length): string {
  const label = `${plain(labelOf(slot, total))}:`.padEnd(labelWidth);
  const done = "=".repeat(slot.steps);
  const state = slot.state.padEnd(stateWidth);
  // Once is enough.
  const tail = [slot.label === slot.node ? "" : slot.node, slot.error].filter((part) => part !== "").join("  ");
  return `${label} ${state} [${`${done}>`.padEnd(11)}]${tail === "" ? "" : ` ${plain(tail)}`}`;
}

export function frameLines(frame: Frame): string[] {
  const { view } = frame;
  const stateWidth = Math.max(9, ...view.slots.slice(0, barsMax).map(({ state }) => state.length));
  const labelWidth = Math.max(...view.slots.slice(0, barsMax).map((slot) => labelOf(slot, view.total).length + 1));
  const bars =
    view.total <= barsMax ? view.slots.map((slot) => bar(slot, view.total, stateWidth, labelWidth)) : totals(view);
  return [overall(frame), ...bars, ...(frame.verify === "" ? [] : [`verify: ${frame.verify}`])];
}

/** "  812 running, 12 starting, 176 pending" */
function totals(view: ProgressView): string[] {
  const counts = new Map<string, number>();
  for (const { state } of view.slots) counts.set(state, (counts.get(state) ?? 0) + 1);
  const parts = [...counts].sort(([, a], [, b]) => b - a).map(([state, n]) => `${n} ${state}`);
  return parts.length === 0 ? [] : [`  ${parts.join(", ")}`];
}

export function failureLines({ task, id, node, error, logs, noLogs }: FailedTask): string[] {
  return [
    `${plain(task)}${node === "" ? "" : ` on ${plain(node)}`} failed: ${plain(error)} (task ${id})`,
    ...(noLogs === "" ? logs.map((line) => `  | ${plain(line)}`) : [`  | (${plain(noLogs)})`]),
  ];
}

class TtyScreen implements ProgressScreen {
  readonly #io: Io;
  #frame: Frame | undefined;
  /** Lines of the block on the screen now. */
  #drawn = 0;
  #cancelTimer: (() => void) | undefined;
  #drawnAtMs = Number.NEGATIVE_INFINITY;

  constructor(io: Io) {
    this.#io = io;
  }

  update(frame: Frame): void {
    this.#frame = frame;
    const { clock } = this.#io;
    const waitMs = this.#drawnAtMs + redrawMs - clock.monotonic();
    if (waitMs <= 0) this.#draw();
    else
      this.#cancelTimer ??= clock.after(waitMs, () => {
        this.#cancelTimer = undefined;
        this.#draw();
      });
  }

  failed(task: FailedTask): void {
    this.#above(failureLines(task));
  }

  say(text: string): void {
    this.#above([text]);
  }

  end(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#draw();
    this.#frame = undefined;
    this.#drawn = 0;
  }

  #above(lines: readonly string[]): void {
    this.#io.err(`${this.#erase()}${lines.map((line) => `${line}\n`).join("")}`);
    this.#drawn = 0;
    this.#draw();
  }

  #draw(): void {
    if (this.#frame === undefined) return;
    // A line that wraps would be two on the way up.
    const width = this.#io.columns() - 1;
    const lines = frameLines(this.#frame).map((line) => clip(line, width));
    this.#io.err(`${this.#erase()}${lines.map((line) => `${line}\n`).join("")}`);
    this.#drawn = lines.length;
    this.#drawnAtMs = this.#io.clock.monotonic();
  }

  #erase(): string {
    return this.#drawn === 0 ? "" : `\u001b[${this.#drawn}A\u001b[0J`;
  }
}

/** What changed between two frames, slot by slot. */
class Changes {
  readonly #said = new Map<number, string>();

  of(view: ProgressView): SlotView[] {
    return view.slots.filter((slot) => {
      const words = [slot.state, slot.node, slot.error].join("\0");
      if (this.#said.get(slot.slot) === words) return false;
      this.#said.set(slot.slot, words);
      return true;
    });
  }
}

class PlainScreen implements ProgressScreen {
  readonly #io: Io;
  readonly #changes = new Changes();
  #overall = "";
  #verify = "";

  constructor(io: Io) {
    this.#io = io;
  }

  update(frame: Frame): void {
    const { view, service } = frame;
    const changed = this.#changes.of(view);
    if (view.total <= barsMax)
      for (const { slot, state, node, error } of changed)
        this.say(
          `${service}.${slot}: ${state}${node === "" ? "" : ` on ${plain(node)}`}${error === "" ? "" : `: ${plain(error)}`}`,
        );
    const line = overall(frame);
    if (line !== this.#overall) this.say(line);
    this.#overall = line;
    if (frame.verify !== "" && frame.verify !== this.#verify) this.say(`verify: ${frame.verify}`);
    this.#verify = frame.verify;
  }

  failed(task: FailedTask): void {
    for (const line of failureLines(task)) this.say(line);
  }

  say(text: string): void {
    this.#io.err(`${text}\n`);
  }

  end(): void {}
}

class JsonScreen implements ProgressScreen {
  readonly #io: Io;
  readonly #changes = new Changes();
  #last = "";

  constructor(io: Io) {
    this.#io = io;
  }

  update({ service, revision, view, verify }: Frame): void {
    const slots = this.#changes.of(view).map(({ slot, state, node, error, done, task }) => ({
      slot,
      state,
      done,
      node,
      error,
      taskId: task?.meta?.id ?? "",
    }));
    const key = [revision, view.done, view.total, verify].join(" ");
    if (slots.length === 0 && key === this.#last) return;
    this.#last = key;
    const run = view.job === undefined ? {} : { run: view.job.run?.number ?? null };
    this.#line({ type: "progress", service, revision, ...run, running: view.done, desired: view.total, verify, slots });
  }

  failed(task: FailedTask): void {
    this.#line({ type: "failure", ...task });
  }

  say(text: string): void {
    this.#line({ type: "message", text });
  }

  end(): void {}

  #line(value: unknown): void {
    this.#io.out(`${safeJson(value)}\n`);
  }
}
