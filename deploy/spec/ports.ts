// A service's ports: what its containers listen on, and where that is published.

import { type PortSpec, Protocol, PublishMode } from "../../proto/mod.js";
import { limits } from "./limits.js";
import type { Problems } from "./problems.js";
import { words } from "./words.js";

export function checkPorts(ports: readonly PortSpec[], problems: Problems): PortSpec[] {
  if (!problems.fits("ports", ports.length, limits.ports, "ports")) return [];
  const targets = new Map<string, number>();
  // One table for both modes: the ambassadors listen on every host, so also on the one where a task's engine would.
  const published = new Map<string, number>();
  const names = new Map<string, number>();
  const once = (seen: Map<string, number>, key: string, field: string, value: string | number, i: number) => {
    const before = seen.get(key);
    if (before !== undefined)
      problems.add(field, value, `must be unique, ports[${before}] has it too`, "use another or leave one out");
    seen.set(key, before ?? i);
  };
  return ports.map((port, i) => {
    const field = `ports[${i}]`;
    const protocol = problems.choice(`${field}.protocol`, port.protocol, Protocol.TCP, words.protocol);
    const mode = problems.choice(`${field}.mode`, port.mode, PublishMode.INGRESS, words.publish);
    problems.whole(`${field}.target`, port.targetPort, 80, 1, 65_535);
    once(targets, `${port.targetPort}/${protocol}`, `${field}.target`, port.targetPort, i);
    if (port.publishedPort !== 0) {
      problems.whole(`${field}.published`, port.publishedPort, 8080, 1, 65_535);
      if (limits.ownPorts.includes(port.publishedPort))
        problems.add(
          `${field}.published`,
          port.publishedPort,
          `must not be one of ${limits.ownPorts.join(", ")}, where Flotilla's own processes listen`,
          "publish for example 8080",
        );
      once(published, `${port.publishedPort}/${protocol}`, `${field}.published`, port.publishedPort, i);
    } else if (mode === PublishMode.HOST)
      problems.add(
        `${field}.published`,
        0,
        "must be a port of the host in mode host",
        port.targetPort >= 1 && port.targetPort <= 65_535 ? `publish for example ${port.targetPort}` : "publish 8080",
      );
    checkPortName(`${field}.name`, port.name, problems);
    if (port.name !== "") once(names, port.name, `${field}.name`, port.name, i);
    return { protocol, targetPort: port.targetPort, publishedPort: port.publishedPort, name: port.name, mode };
  });
}

function checkPortName(field: string, name: string, problems: Problems): void {
  if (name === "") return;
  if (name.length <= limits.portNameLength && /^[a-z0-9]+(-[a-z0-9]+)*$/.test(name) && /[a-z]/.test(name)) return;
  problems.add(
    field,
    name,
    `must be 1 to ${limits.portNameLength} lower-case letters, digits and single -, with a letter`,
    "write for example http",
  );
}
