// Which nodes a service of one task per node is for.

import { matchConstraint, parseConstraint } from "../spec/mod.js";
import { type Node, NodeAvailability, NodeState, type ServiceSpec } from "../../proto/mod.js";

/** open: it has a task of the service. closed (cordoned): it keeps one that it has, and gets none. no: it has none. */
export type Eligibility = "open" | "closed" | "no";

/**
 * Whether a node is one of the service's by its placement: constraints and required affinities to nodes. What else may
 * be in a task's way (resources, ports, other services) is the scheduler's to say, of a task that waits.
 */
export function placementOf(spec: ServiceSpec): (node: Node) => boolean {
  const { constraints, affinities } = spec.task.placement;
  const texts = [...constraints, ...affinities.filter(({ required }) => required).map(({ expression }) => expression)];
  const parsed = texts.flatMap((text) => {
    const result = parseConstraint(text);
    return "constraint" in result ? [result.constraint] : [];
  });
  return (node) => parsed.every((constraint) => matchConstraint(constraint, node));
}

/** What `placementOf` says, and what the node's own state does. */
export function eligibilityOf(spec: ServiceSpec): (node: Node) => Eligibility {
  const allows = placementOf(spec);
  return (node) => {
    const { availability } = node.spec;
    if (node.status.state === NodeState.DOWN || availability === NodeAvailability.DRAINED || !allows(node)) return "no";
    return availability === NodeAvailability.CORDONED ? "closed" : "open";
  };
}
