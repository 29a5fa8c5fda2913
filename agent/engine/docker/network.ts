// The node's bridge network. Names of networks are not unique to the engine: ours is known by name and subnet, and used by id.

import { ClusterError } from "../../../lib/mod.js";
import type { DockerApi } from "./api.js";

interface NetworkAnswer {
  Id: string;
  Name: string;
  Driver: string;
  IPAM: { Config: { Subnet?: string; Gateway?: string }[] | null };
}

export interface NetworkRequest {
  name: string;
  subnet: string;
  gateway: string;
  labels: Record<string, string>;
}

const deadlineMs = 60_000;

export async function ensureNetwork(api: DockerApi, request: NetworkRequest): Promise<{ id: string }> {
  const found = await find(api, request);
  if (found !== undefined) return found;
  try {
    const answer = (await api.ask({
      method: "POST",
      path: "/networks/create",
      body: {
        Name: request.name,
        // Without it 20.10 makes a second network of the same name.
        CheckDuplicate: true,
        Driver: "bridge",
        IPAM: { Driver: "default", Config: [{ Subnet: request.subnet, Gateway: request.gateway }] },
        Labels: request.labels,
      },
      kind: "long",
      deadlineMs,
      what: `create network ${request.name}`,
    })) as { Id: string };
    return { id: answer.Id };
  } catch (failure) {
    // Somebody else made it in between.
    const other = failure instanceof ClusterError && failure.code === "conflict" ? await find(api, request) : undefined;
    if (other === undefined) throw failure;
    return other;
  }
}

async function find(api: DockerApi, request: NetworkRequest): Promise<{ id: string } | undefined> {
  const rows = (await api.ask({
    method: "GET",
    path: "/networks",
    query: { filters: JSON.stringify({ name: [request.name] }) },
    kind: "quick",
    deadlineMs,
    what: "list networks",
  })) as NetworkAnswer[];
  // The filter also finds names that only contain ours.
  const named = rows.filter((row) => row.Name === request.name);
  const same = named.find(
    (row) => row.Driver === "bridge" && (row.IPAM.Config ?? []).some((config) => config.Subnet === request.subnet),
  );
  if (same !== undefined) return { id: same.Id };
  const other = named[0];
  if (other === undefined) return undefined;
  const subnets = (other.IPAM.Config ?? []).map((config) => config.Subnet ?? "none").join(", ");
  throw new ClusterError(
    "failed_precondition",
    `network ${request.name} exists with subnet ${subnets || "none"} (driver ${other.Driver}), not ${request.subnet}: ` +
      `remove it with docker network rm ${other.Id.slice(0, 12)}`,
  );
}
