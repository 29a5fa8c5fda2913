// What the agent sends is checked before it is believed: a wrong address in one route must not cost the others.

import type { HostConfig } from "../../proto/gen/flotilla/ambassador/v1/ambassador.js";
import { type Endpoint, Protocol, type Route } from "../../proto/mod.js";
import { type Cidr, cidrContains, parseRange, parseIpv4 } from "../../lib/mod.js";

/** HostConfig with its addresses understood. */
export interface HostView {
  readonly config: HostConfig;
  readonly gateway: number;
  readonly subnet: Cidr;
  readonly vipPool: Cidr;
  readonly nodePool: Cidr;
  readonly dnsAddress: number;
  /** Lower case, without dots at the ends. */
  readonly domain: string;
  readonly nodes: ReadonlyMap<string, number>;
}

const label = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/;

/** A name that DNS can carry, in lower case; undefined when it is none. */
export function dnsName(text: string): string | undefined {
  const name = text.toLowerCase();
  return name.length <= 200 && name.split(".").every((part) => label.test(part)) ? name : undefined;
}

export function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 1 && port <= 65_535;
}

/** The host's configuration, or what is wrong with it. */
export function checkHost(config: HostConfig): HostView | { readonly problems: readonly string[] } {
  const problems: string[] = [];
  const need = <T>(field: string, value: string, parsed: T | undefined, rule: string): T | undefined => {
    if (parsed === undefined) problems.push(`host.${field}: ${JSON.stringify(value)} ${rule}`);
    return parsed;
  };
  const address = "must be an IPv4 address such as 10.127.0.53";
  const range = "must be an IPv4 range such as 10.127.0.0/16";
  const gateway = need("gateway", config.gateway, parseIpv4(config.gateway), address);
  const subnet = need("subnet", config.subnet, parseRange(config.subnet), range);
  const vipPool = need("vip_pool", config.vipPool, parseRange(config.vipPool), range);
  const nodePool = need("node_pool", config.nodePool, parseRange(config.nodePool), range);
  const dnsAddress = need("dns_address", config.dnsAddress, parseIpv4(config.dnsAddress), address);
  const domain = need("domain", config.domain, dnsName(config.domain), "must be a DNS name such as flotilla.internal");
  const nodes = new Map<string, number>();
  for (const [name, value] of Object.entries(config.nodeAddresses)) {
    const at = parseIpv4(value);
    const known = dnsName(name);
    // A node may be reached by a name or over IPv6; then it has no A record, which is no fault of the configuration.
    if (at !== undefined && known !== undefined) nodes.set(known, at);
  }
  if (
    gateway === undefined ||
    subnet === undefined ||
    vipPool === undefined ||
    nodePool === undefined ||
    dnsAddress === undefined ||
    domain === undefined
  )
    return { problems };
  return { config, gateway, subnet, vipPool, nodePool, dnsAddress, domain, nodes };
}

/** What is wrong with the route as a whole; undefined when it can be used. */
export function routeFault(route: Route, host: HostView): string | undefined {
  const name = `route ${JSON.stringify(route.id)} of service ${JSON.stringify(route.serviceName)}`;
  if (route.id === "") return `${name}: has no id`;
  if (dnsName(route.serviceName) === undefined) return `${name}: the service's name cannot be a DNS name`;
  if (route.vip === "" && route.ports.length > 0) return `${name}: has ports but no virtual IP`;
  if (route.vip !== "") {
    const vip = parseIpv4(route.vip);
    if (vip === undefined || !cidrContains(host.vipPool, vip))
      return `${name}: virtual IP ${JSON.stringify(route.vip)} is not in ${host.config.vipPool}`;
    if (vip === host.dnsAddress) return `${name}: virtual IP ${route.vip} is the resolver's own address`;
  }
  for (const port of route.ports) {
    if (port.protocol !== Protocol.TCP)
      return `${name}: port ${port.targetPort} has protocol ${port.protocol}, known is tcp`;
    if (!isPort(port.targetPort)) return `${name}: target port ${port.targetPort} is not from 1 to 65535`;
    if (port.publishedPort !== 0 && !isPort(port.publishedPort))
      return `${name}: published port ${port.publishedPort} is not from 1 to 65535`;
  }
  return undefined;
}

/** What is wrong with the endpoint; undefined when it can be used. */
export function endpointFault(endpoint: Endpoint): string | undefined {
  const name = `task ${JSON.stringify(endpoint.taskId)}`;
  if (endpoint.taskId === "") return "an endpoint has no task id";
  if (parseIpv4(endpoint.address) === undefined)
    return `${name}: container address ${JSON.stringify(endpoint.address)} is not an IPv4 address`;
  for (const { targetPort, hostPort } of endpoint.hostPorts)
    if (!isPort(targetPort) || !isPort(hostPort))
      return `${name}: host port ${hostPort} for ${targetPort} is not from 1 to 65535`;
  return undefined;
}
