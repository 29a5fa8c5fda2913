// What the embedded store needs of the managers' shared log; manager/consensus has it.

import type { Leadership } from "../leadership.js";

export interface StoreLog extends Leadership {
  /** The term that this manager is in. */
  status(): { readonly term: number };
  /**
   * Adds one entry and resolves with what `apply` returned for it here. Rejects with a ClusterError: `unknown_outcome`
   * when it may or may not come into the log, any other code when it never will.
   */
  propose(data: Uint8Array): Promise<unknown>;
  /** Resolves once everything that was committed anywhere before the call is applied here. */
  barrier(signal?: AbortSignal): Promise<void>;
}
