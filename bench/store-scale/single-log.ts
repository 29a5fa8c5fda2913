// The log of a manager that is alone: appended to a file and synced, then applied. It makes a write cost what the disk
// costs, and nothing else, so that what the store adds is seen.

import { type FileHandle, open } from "node:fs/promises";
import type { Leadership, RaftStore, StoreLog } from "../../manager/store/mod.js";

const self = { id: 1, address: "127.0.0.1:7400" };

export async function attachSingleLog(store: RaftStore, path: string): Promise<AsyncDisposable> {
  const file: FileHandle = await open(path, "w");
  const ending = new AbortController();
  let index = 0;
  const leadership: Leadership = {
    self,
    leader: () => self,
    tenure: () => ({ epoch: 1, term: 1, signal: ending.signal }),
    onChange: () => () => undefined,
    health: () => ({ ready: true, message: "alone" }),
  };
  const log: StoreLog = {
    ...leadership,
    status: () => ({ term: 1 }),
    async propose(data) {
      await file.write(data);
      await file.datasync();
      index += 1;
      return store.machine.apply({ index, term: 1, data });
    },
    barrier: () => Promise.resolve(),
  };
  store.attach(log);
  return {
    async [Symbol.asyncDispose]() {
      ending.abort();
      await file.close();
    },
  };
}
