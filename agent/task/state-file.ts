// The agent's memory: one JSON file, replaced whole, so that whoever is killed at whatever moment leaves either the old
// one or the new one. Writes are gathered: one is under way at a time, and the next takes all changes made meanwhile.

import { open, readFile, rename } from "node:fs/promises";
import { ClusterError, type Logger, messageOf } from "../../lib/mod.js";
import { SessionMessage, TaskAssignment } from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import type { Cluster, Node } from "../../proto/mod.js";
import { type TaskRecord, assignmentOf } from "./record.js";

const fileVersion = 1;

export interface Memory {
  nodeId: string;
  /** Of the last session; absent before the first. */
  host: { cluster: Cluster; node: Node } | undefined;
  managers: string[];
  /** When a manager was last known to hear this agent, on the wall clock; at most some seconds old. 0 is never. */
  contactAtMs: number;
  records: TaskRecord[];
}

/** As it stands in the file: what the managers sent stays in their encoding. */
interface FileContent {
  version: number;
  nodeId: string;
  session: string;
  /** Absent in what agents wrote that knew nothing of it, as `cutOff`. */
  contactAtMs?: number;
  records: (Omit<TaskRecord, "assignment" | "cutOff"> & { assignment: string; cutOff?: boolean })[];
}

export class StateFile {
  readonly #path: string;
  readonly #log: Logger;
  #wanted: (() => Memory) | undefined;
  #writing: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  constructor(path: string, log: Logger) {
    this.#path = path;
    this.#log = log;
  }

  /** Undefined when there is none yet; `failed_precondition` when it cannot be read. */
  async read(): Promise<Memory | undefined> {
    let text: string;
    try {
      text = await readFile(this.#path, "utf8");
    } catch (failure) {
      if (failure instanceof Error && "code" in failure && failure.code === "ENOENT") return undefined;
      throw new ClusterError("failed_precondition", `agent state ${this.#path}: ${messageOf(failure)}`, {
        cause: failure,
      });
    }
    try {
      return decode(JSON.parse(text) as FileContent);
    } catch (failure) {
      throw new ClusterError(
        "failed_precondition",
        `agent state ${this.#path} is damaged (${messageOf(failure)}): restore it, or remove it to join as a new node`,
        { cause: failure },
      );
    }
  }

  /** Resolves once a file with what `memory` answers now, or later, is on the disk. */
  async write(memory: () => Memory): Promise<void> {
    this.#wanted = memory;
    if (this.#writing === undefined) {
      this.#writing = this.#replace().finally(() => {
        this.#writing = undefined;
      });
      return await this.#writing;
    }
    // What is being written may lack the newest change: the write after it has it.
    const current = this.#writing;
    this.#next ??= current
      .catch((failure: unknown) => this.#log.debug({ error: messageOf(failure) }, "the write before failed, too"))
      .then(() => {
        this.#next = undefined;
        return this.write(this.#wanted ?? memory);
      });
    await this.#next;
  }

  async #replace(): Promise<void> {
    const memory = this.#wanted;
    if (memory === undefined) return;
    const file = await open(`${this.#path}.new`, "w", 0o600);
    try {
      await file.writeFile(encode(memory()));
      await file.datasync();
    } finally {
      await file.close();
    }
    await rename(`${this.#path}.new`, this.#path);
  }
}

function encode(memory: Memory): string {
  const session = SessionMessage.encode({
    sessionId: "",
    heartbeatPeriodMs: 0,
    node: memory.host?.node,
    cluster: memory.host?.cluster,
    managers: memory.managers,
  }).finish();
  const content: FileContent = {
    version: fileVersion,
    nodeId: memory.nodeId,
    session: Buffer.from(session).toString("base64"),
    contactAtMs: memory.contactAtMs,
    records: memory.records.map((record) => ({
      ...record,
      assignment: Buffer.from(TaskAssignment.encode(record.assignment as TaskAssignment).finish()).toString("base64"),
    })),
  };
  return JSON.stringify(content);
}

function decode(content: FileContent): Memory {
  if (content.version !== fileVersion) throw new Error(`its version is ${content.version}, not ${fileVersion}`);
  if (typeof content.nodeId !== "string" || content.nodeId === "") throw new Error("it has no node id");
  const session = SessionMessage.decode(Buffer.from(content.session, "base64"));
  const { cluster, node } = session;
  return {
    nodeId: content.nodeId,
    host:
      cluster?.meta === undefined || node?.meta === undefined
        ? undefined
        : { cluster: cluster as Cluster, node: node as Node },
    managers: session.managers,
    contactAtMs: content.contactAtMs ?? 0,
    records: content.records.map((record) => ({
      ...record,
      exitCode: record.exitCode,
      cutOff: record.cutOff ?? false,
      assignment: assignmentOf(TaskAssignment.decode(Buffer.from(record.assignment, "base64"))),
    })),
  };
}
