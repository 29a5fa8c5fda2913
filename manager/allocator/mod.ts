// Gives out what the cluster has a pool of: services' virtual IPs, as a pure function of the view that is called inside
// the transaction that stores the result, so two callers can never be given the same; and nodes' subnets, see subnets.ts.

import { cidrContains, cidrSize, ClusterError, formatIpv4, parseIpv4 } from "../../lib/mod.js";
import type { Cluster } from "../../proto/mod.js";
import type { View } from "../store/mod.js";
import { poolOf } from "./pool.js";

export { SubnetPool } from "./subnets.js";

/**
 * A virtual IP that no service has. The search starts right after the newest service's, so that a freed address is
 * not given to another service while somebody may still have it cached. `resource_exhausted` when all are in use.
 */
export function allocateVip(view: View, cluster: Cluster): string {
  const vips = poolOf(cluster.vipPool, "vip_pool");
  const reserved = parseIpv4(cluster.dnsAddress);
  const used = new Set<number>();
  let newest = { at: -1, vip: vips.base };
  for (const service of view.services.values()) {
    const vip = parseIpv4(service.vip);
    if (vip === undefined) continue;
    used.add(vip);
    if (service.meta.createdAtMs > newest.at && cidrContains(vips, vip)) newest = { at: service.meta.createdAtMs, vip };
  }
  const size = cidrSize(vips);
  for (let step = 1; step < size; step += 1) {
    const offset = (newest.vip - vips.base + step) % size;
    const candidate = vips.base + offset;
    // The first and the last address of a subnet mean the network and everybody.
    if (offset === 0 || offset === size - 1 || candidate === reserved || used.has(candidate)) continue;
    return formatIpv4(candidate);
  }
  throw new ClusterError(
    "resource_exhausted",
    `all ${used.size} virtual IPs of ${cluster.vipPool} are in use; remove services or create the cluster with a larger pool`,
  );
}
