// What a pure decision asks the store to do. Deciding and writing are apart, so that decisions can be tested without
// a store, and be made again when somebody else wrote in between.

import type { Objects, Table } from "../../proto/mod.js";
import type { Transaction } from "../store/mod.js";

export type Step = {
  [K in Table]: { do: "create" | "put"; table: K; object: Objects[K] } | { do: "remove"; table: K; id: string };
}[Table];

/** Makes the steps in a transaction, in order. */
export function applySteps(tx: Transaction, steps: readonly Step[]): void {
  for (const step of steps) {
    if (step.do === "remove") tx.remove(step.table, step.id);
    else if (step.do === "create") tx.create(step.table, step.object);
    else tx.put(step.table, step.object);
  }
}
