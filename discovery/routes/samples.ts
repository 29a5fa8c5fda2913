// Routes and hosts for tests: complete messages from the few fields that a test is about.

import type { HostConfig } from "../../proto/gen/flotilla/ambassador/v1/ambassador.js";
import { type Endpoint, Protocol, PublishMode, type Route } from "../../proto/mod.js";

export function sampleHost(of: Partial<HostConfig> = {}): HostConfig {
  return {
    nodeId: "n1",
    gateway: "10.128.1.1",
    subnet: "10.128.1.0/24",
    vipPool: "10.127.0.0/16",
    nodePool: "10.128.0.0/10",
    domain: "flotilla.internal",
    dnsAddress: "10.127.0.53",
    nodeAddresses: { h1: "192.168.0.1", h2: "192.168.0.2" },
    ...of,
  };
}

export function sampleEndpoint(slot: number, of: Partial<Endpoint> = {}): Endpoint {
  return {
    taskId: `t${slot}`,
    slot,
    revision: 1,
    nodeId: "n1",
    address: `10.128.1.${10 + slot}`,
    hostAddress: "192.168.0.1",
    hostPorts: [{ protocol: Protocol.TCP, targetPort: 80, hostPort: 32_000 + slot }],
    draining: false,
    ...of,
  };
}

export function sampleRoute(of: Partial<Route> = {}): Route {
  return {
    id: "s1",
    serviceName: "web",
    vip: "10.127.0.7",
    ports: [{ protocol: Protocol.TCP, targetPort: 80, publishedPort: 0, name: "http", mode: PublishMode.INGRESS }],
    endpoints: [],
    ...of,
  };
}
