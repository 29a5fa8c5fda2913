// What all kinds of events share.

import type { Event } from "../../proto/mod.js";
import type { View } from "../store/mod.js";

export type Told = Omit<Event, "sequence" | "atMs">;

/** "running", "rolled back", …: as people read it. */
export function nameOf(states: Readonly<Record<string, number>>, state: number): string {
  const name = Object.keys(states).find((key) => states[key] === state) ?? String(state);
  return name.toLowerCase().replaceAll("_", " ");
}

/** Its host's name; the id of one that is not known any more. */
export function hostname(view: View, nodeId: string): string {
  return view.nodes.get(nodeId)?.description.hostname ?? nodeId;
}

/** Why the service has the revision that it has. */
export function causeOfRevision(view: View, serviceId: string, number: number): string {
  const cause = view.revisionOfService(serviceId, number)?.cause ?? "";
  // "created" and "updated" is what the event says itself.
  return cause === "created" || cause === "updated" ? "" : cause;
}
