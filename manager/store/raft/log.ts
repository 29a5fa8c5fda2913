// What the embedded store needs of the managers' shared log; manager/consensus has it.

export interface StoreLog {
  readonly self: { readonly id: number };
  /** Undefined while there is none, or none is known. */
  leader(): { readonly id: number; readonly address: string } | undefined;
  /** Present from when the first entry of the own term is applied here until leadership is lost, or may be. */
  tenure(): { readonly term: number; readonly signal: AbortSignal } | undefined;
  /** The term that this manager is in. */
  status(): { readonly term: number };
  /** After every change of leader or tenure. Returns how to stop it. */
  onChange(listener: () => void): () => void;
  health(): { ready: boolean; message: string };
  /**
   * Adds one entry and resolves with what `apply` returned for it here. Rejects with a ClusterError: `unknown_outcome`
   * when it may or may not come into the log, any other code when it never will.
   */
  propose(data: Uint8Array): Promise<unknown>;
  /** Resolves once everything that was committed anywhere before the call is applied here. */
  barrier(signal?: AbortSignal): Promise<void>;
}
