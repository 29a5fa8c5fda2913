// Names that users write, as objects: a service by its name, its id, or a unique prefix of its id; a node by its host
// name likewise. What is not found gets the nearest name there is.

import { closest } from "../../deploy/spec/mod.js";
import { ClusterError } from "../../lib/mod.js";
import type { Node, Service } from "../../proto/mod.js";
import type { View } from "../store/mod.js";

/** Ids are long and random: fewer characters would find what was not meant. */
const prefixCharsMin = 4;

export function findService(view: View, wanted: string): Service {
  const exact = view.serviceByName(wanted) ?? view.services.get(wanted);
  if (exact !== undefined) return exact;
  return byPrefix("service", wanted, view.services.values(), ({ spec }) => spec.name, "flotilla service ls");
}

export function findNode(view: View, wanted: string): Node {
  const exact = view.nodes.get(wanted);
  if (exact !== undefined) return exact;
  const named = [...view.nodes.values()].filter(({ description }) => description.hostname === wanted);
  const [only] = named;
  if (only !== undefined && named.length === 1) return only;
  if (named.length > 1)
    throw new ClusterError(
      "invalid_argument",
      `node ${JSON.stringify(wanted)} is the name of ${named.length} nodes; give the id: ${named.map(({ meta }) => meta.id).join(", ")}`,
    );
  return byPrefix("node", wanted, view.nodes.values(), ({ description }) => description.hostname, "flotilla node ls");
}

function byPrefix<T extends { meta: { id: string } }>(
  kind: string,
  wanted: string,
  all: Iterable<T>,
  nameOf: (object: T) => string,
  list: string,
): T {
  const objects = [...all];
  if (wanted.length >= prefixCharsMin) {
    const found = objects.filter(({ meta }) => meta.id.startsWith(wanted));
    const [only] = found;
    if (only !== undefined && found.length === 1) return only;
    if (found.length > 1)
      throw new ClusterError(
        "invalid_argument",
        `${kind} ${JSON.stringify(wanted)} is the beginning of ${found.length} ids; give more of it`,
      );
  }
  const near = closest(wanted, objects.map(nameOf));
  throw new ClusterError(
    "not_found",
    `no ${kind} ${JSON.stringify(wanted)}; ${near === undefined ? "" : `did you mean ${near}? `}see: ${list}`,
  );
}
