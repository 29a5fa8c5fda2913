// The calls about the managers themselves.

import { type Clock, ClusterError } from "../../lib/mod.js";
import {
  type BackupClusterRequest,
  type BackupPart,
  type ClusterStatus,
  type ControlServer,
  ControlService,
  type GetClusterStatusRequest,
} from "../../proto/gen/flotilla/control/v1/control.js";
import type { Consensus } from "../consensus/mod.js";
import type { Call, Handlers } from "../rpc/mod.js";
import { exportChunks, type Store } from "../store/mod.js";
import type { Forwarder } from "./forward.js";
import { removeManager } from "./removal.js";

export interface ManagersOptions {
  store: Store;
  consensus: Consensus;
  forwarder: Forwarder;
  clock: Clock;
  version: string;
}

export function managersHandlers(
  handlers: Handlers,
  options: ManagersOptions,
): Pick<ControlServer, "getClusterStatus" | "removeManager" | "transferLeadership" | "backupCluster"> {
  const { store, consensus, forwarder } = options;
  const status = (): ClusterStatus => ({ ...consensus.status(), revision: store.view().revision });
  const leaders = forwarder.unary(ControlService.getClusterStatus, status);
  return {
    getClusterStatus: handlers.unary("GetClusterStatus", async (request: GetClusterStatusRequest, peer, call: Call) => {
      if (request.local) return status();
      try {
        return await leaders(request, peer, call);
      } catch (error) {
        call.signal.throwIfAborted();
        // Without a leader to be had, what this manager knows is better than nothing.
        const own = status();
        const why = error instanceof Error ? error.message : String(error);
        return { ...own, writable: false, message: own.message === "" ? why : own.message };
      }
    }),
    removeManager: handlers.unary(
      "RemoveManager",
      forwarder.unary(ControlService.removeManager, async ({ manager, force }) => {
        requireName(manager);
        return { manager: await removeManager(store, options.clock, consensus, manager, force) };
      }),
    ),
    transferLeadership: handlers.unary(
      "TransferLeadership",
      forwarder.unary(ControlService.transferLeadership, async ({ manager }) => {
        await consensus.transferLeadership(manager);
        return status();
      }),
    ),
    backupCluster: handlers.serverStream<BackupClusterRequest, BackupPart>("BackupCluster", () => backup(options)),
  };
}

async function* backup({ store, consensus, clock, version }: ManagersOptions): AsyncGenerator<BackupPart> {
  if (store.engine === "etcd")
    throw new ClusterError(
      "failed_precondition",
      "this cluster keeps its objects in etcd, which has a backup of its own: etcdctl snapshot save FILE",
    );
  await store.barrier();
  const view = store.view();
  const { clusterId, clusterName: cluster, epoch } = consensus;
  // Both in one turn: the header says which revision the chunks are of.
  const chunks = exportChunks(view);
  const header = { clusterId, cluster, epoch, revision: view.revision, createdAtMs: clock.now(), version };
  yield { header, chunk: Buffer.alloc(0) };
  for (const chunk of chunks)
    yield { header: undefined, chunk: Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength) };
}

function requireName(manager: string): void {
  if (manager !== "") return;
  throw ClusterError.invalid([
    {
      field: "manager",
      value: "",
      rule: "must be a manager's name, id or address",
      fix: "see flotilla cluster status",
    },
  ]);
}
