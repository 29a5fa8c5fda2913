import { type Cidr, parseCidr } from "../../lib/mod.js";

/** A pool of the cluster, which was checked when the cluster was made. */
export function poolOf(text: string, field: string): Cidr {
  const cidr = parseCidr(text);
  if (cidr === undefined) throw new Error(`cluster.${field} is stored as ${JSON.stringify(text)}, which is no CIDR`);
  return cidr;
}
