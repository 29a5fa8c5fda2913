// The engine's inspect answer as a ContainerState.

import { ContainerHealth, type HostPort, Protocol } from "../../../proto/mod.js";
import type { ContainerState } from "../engine.js";

/** The parts of an inspect answer that are read. */
export interface InspectAnswer {
  Id: string;
  Name: string;
  Config: { Labels: Record<string, string> | null; Tty: boolean };
  State: {
    Status: string;
    /** 0 when it does not run. */
    Pid: number;
    ExitCode: number;
    OOMKilled: boolean;
    Error: string;
    StartedAt: string;
    FinishedAt: string;
    Health?: { Status: string } | null;
  };
  NetworkSettings: {
    Ports: Record<string, { HostIp: string; HostPort: string }[] | null> | null;
    Networks: Record<string, { IPAddress: string }> | null;
  };
}

const statuses = new Set(["created", "running", "paused", "restarting", "removing", "exited", "dead"] as const);
type Status = ContainerState["status"];

const healths: Readonly<Record<string, ContainerHealth>> = {
  starting: ContainerHealth.STARTING,
  healthy: ContainerHealth.HEALTHY,
  unhealthy: ContainerHealth.UNHEALTHY,
};

export function containerState(answer: InspectAnswer): ContainerState {
  const { State: state, NetworkSettings: network } = answer;
  if (!statuses.has(state.Status as Status))
    throw new Error(`container ${answer.Id} has the unknown status ${JSON.stringify(state.Status)}`);
  const running = state.Status === "running" || state.Status === "paused";
  return {
    id: answer.Id,
    name: answer.Name.replace(/^\//, ""),
    labels: answer.Config.Labels ?? {},
    status: state.Status as Status,
    exitCode: state.ExitCode,
    // The flag alone also means that some child was killed, and sticks from an earlier run.
    oomKilled: state.OOMKilled && state.ExitCode === 137,
    error: state.Error,
    health: healths[state.Health?.Status ?? ""] ?? ContainerHealth.NONE,
    startedAtMs: timeMs(state.StartedAt),
    finishedAtMs: timeMs(state.FinishedAt),
    address: running ? (Object.values(network.Networks ?? {}).find((on) => on.IPAddress !== "")?.IPAddress ?? "") : "",
    hostPorts: running ? hostPorts(network.Ports ?? {}) : [],
  };
}

/** Go's zero time, the year 1, means never. */
function timeMs(text: string): number {
  const ms = Date.parse(text);
  return Number.isNaN(ms) || ms < 0 ? 0 : ms;
}

function hostPorts(ports: Record<string, { HostPort: string }[] | null>): HostPort[] {
  const found: HostPort[] = [];
  for (const [key, bindings] of Object.entries(ports)) {
    const [target, protocol] = key.split("/");
    const bound = bindings?.[0];
    if (protocol !== "tcp" || bound === undefined) continue;
    found.push({ protocol: Protocol.TCP, targetPort: Number(target), hostPort: Number(bound.HostPort) });
  }
  return found.toSorted((a, b) => a.targetPort - b.targetPort);
}
