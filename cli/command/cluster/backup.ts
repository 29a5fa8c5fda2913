// `flotilla cluster backup`: everything in the managers' store, in a file.

import { rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import type { Command } from "commander";
import { syncFolder } from "./folder.js";
import { type BackupPart } from "../../../proto/gen/flotilla/control/v1/control.js";
import { StoreChunk } from "../../../proto/gen/flotilla/raft/v1/raft.js";
import { exits } from "../../exit.js";
import { filePath } from "../../flags/host.js";
import { count, plain, safeJson } from "../../screen/text.js";
import { iso } from "../../screen/time.js";
import { type Cli, addLeaf } from "../leaf.js";

export function addBackup(parent: Command, cli: Cli): void {
  const { io } = cli;
  addLeaf(parent, cli, {
    name: "backup",
    args: "FILE",
    summary: "write everything that the managers keep into a file",
    description:
      "Writes all objects of the embedded store, as they are at one revision, into a file that only its owner can read; whole or not at all. With --store etcd back etcd up instead: etcdctl snapshot save.",
    flags: [{ long: "force", help: "replace a file that is there" }],
    examples: ["flotilla cluster backup ./flotilla.backup", "flotilla cluster backup --force /var/backups/flotilla"],
    async run({ flags, args, json, connect }) {
      const path = flags.parse("FILE", args[0] ?? "", filePath) ?? "";
      flags.check();
      const { writeBackup } = await cli.offline.backups();
      const api = await connect();
      const controller = new AbortController();
      const off = io.onStop((signal) => controller.abort(new DOMException(`${signal} received`, "AbortError")));
      let objects = 0;
      async function* counted(): AsyncGenerator<BackupPart> {
        for await (const part of api.backup(controller.signal)) {
          if (part.chunk.length > 0) objects += StoreChunk.decode(part.chunk).objects.length;
          yield part;
        }
        // A stream that is cut off on purpose ends without an error: half a backup is none.
        controller.signal.throwIfAborted();
      }
      try {
        const force = flags.has("force");
        const target = force ? `${path}.new` : path;
        if (force) await rm(target, { force: true });
        const { header, bytes } = await writeBackup(target, counted());
        if (force) {
          await rename(target, path);
          await syncFolder(dirname(path));
        }
        const { cluster, clusterId, revision, createdAtMs, version } = header;
        if (json)
          io.out(
            `${safeJson({ file: path, cluster, clusterId, revision, objects, bytes, createdAt: iso(createdAtMs), version }, 2)}\n`,
          );
        else
          io.out(
            `${plain(`${path}: cluster ${cluster} at revision ${revision}, ${count(objects, "object")}, ${count(bytes, "byte")}`)}\n`,
          );
        return exits.ok;
      } catch (error) {
        if (!controller.signal.aborted) throw error;
        io.err("stopped; nothing was written\n");
        return exits.detached;
      } finally {
        off();
      }
    },
  });
}
