// A container request as the body of the engine's create call. Reservations are the scheduler's affair: the engine gets
// limits only, as Swarm does it.

import { type ContainerSpec, type HealthCheck, type Mount, MountType, PublishMode } from "../../../proto/mod.js";
import type { ContainerRequest } from "../engine.js";

const nsPerMs = 1_000_000;

export function createBody(request: ContainerRequest): object {
  const { spec, limits } = request;
  const exposed: Record<string, object> = {};
  const bindings: Record<string, object[]> = {};
  for (const port of request.ports) {
    const key = `${port.targetPort}/tcp`;
    exposed[key] = {};
    const isHost = port.mode === PublishMode.HOST;
    // An empty host port lets the engine pick a free one; an empty address is all of them.
    const binding = {
      HostIp: isHost ? "" : request.hostAddress,
      HostPort: isHost && port.publishedPort > 0 ? String(port.publishedPort) : "",
    };
    (bindings[key] ??= []).push(binding);
  }
  return {
    Image: spec.image,
    Labels: request.labels,
    Env: spec.env,
    Tty: spec.tty,
    ExposedPorts: exposed,
    StopTimeout: Math.ceil(spec.stopGracePeriodMs / 1000),
    ...whenSet("Entrypoint", spec.command),
    ...whenSet("Cmd", spec.args),
    ...whenSet("User", spec.user),
    ...whenSet("WorkingDir", spec.workingDir),
    ...whenSet("Hostname", spec.hostname),
    ...whenSet("StopSignal", spec.stopSignal),
    ...(spec.healthcheck === undefined ? {} : { Healthcheck: healthBody(spec.healthcheck) }),
    HostConfig: {
      NetworkMode: request.networkId,
      PortBindings: bindings,
      Dns: request.dns.servers,
      DnsSearch: request.dns.search,
      // The agent restarts, so that two restarters never meet.
      RestartPolicy: { Name: "no" },
      NanoCpus: limits.nanoCpus,
      Memory: limits.memoryBytes,
      ReadonlyRootfs: spec.readOnly,
      Mounts: spec.mounts.map(mountBody),
      ...initBody(spec),
    },
  };
}

function initBody(spec: ContainerSpec): object {
  return spec.init === undefined ? {} : { Init: spec.init };
}

/** What is empty is left to the image. */
function whenSet(name: string, value: string | string[]): object {
  return value.length === 0 ? {} : { [name]: value };
}

function healthBody(check: HealthCheck): object {
  const body: Record<string, unknown> = {};
  if (check.test.length > 0) body["Test"] = check.test;
  if (check.intervalMs !== undefined) body["Interval"] = check.intervalMs * nsPerMs;
  if (check.timeoutMs !== undefined) body["Timeout"] = check.timeoutMs * nsPerMs;
  if (check.startPeriodMs !== undefined) body["StartPeriod"] = check.startPeriodMs * nsPerMs;
  if (check.retries !== undefined) body["Retries"] = check.retries;
  return body;
}

/** The driver that makes the volume when there is none of that name; the engine's own when it is not said. */
function driverBody({ volumeDriver }: Mount): object {
  return volumeDriver === "" ? {} : { VolumeOptions: { DriverConfig: { Name: volumeDriver } } };
}

function mountBody(mount: Mount): object {
  const common = { Target: mount.target, ReadOnly: mount.readOnly };
  switch (mount.type) {
    case MountType.BIND:
      return { Type: "bind", Source: mount.source, ...common };
    case MountType.VOLUME:
      return { Type: "volume", Source: mount.source, ...common, ...driverBody(mount) };
    case MountType.TMPFS:
      return { Type: "tmpfs", ...common };
    case MountType.UNSPECIFIED:
      throw new Error(`a mount of unknown type ${mount.type} passed validation`);
  }
}
