// Ports as they are written on the command line.

import { type PortSpec, Protocol, PublishMode } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { fieldsOf } from "./fields.js";
import { port } from "./parsers.js";
import type { Parsed, Parser } from "./reader.js";

const modes: ReadonlyMap<string, PublishMode> = new Map([
  ["ingress", PublishMode.INGRESS],
  ["host", PublishMode.HOST],
]);

const portFix = "write for example 8080:80, 80, or published=8080,target=80,name=http";

/**
 * `8080:80`, `80` (the same port on the hosts), `8080:80/tcp`, or `published=8080,target=80,protocol=tcp,name=http`,
 * with `mode=host` on the task's own host instead of all of them.
 */
export const publishedPort: Parser<PortSpec> = (text) => {
  const short = /^(?:(\d+):)?(\d+)(?:\/([a-z]+))?$/i.exec(text);
  if (short !== null) {
    const [, published, target, protocol] = short;
    return portSpec({ published: published ?? target, target, protocol });
  }
  if (!text.includes("=")) return { rule: "must be [PUBLISHED:]TARGET[/tcp]", fix: portFix };
  const fields = fieldsOf(text, ["published", "target", "protocol", "name", "mode"]);
  if (!("ok" in fields)) return { rule: fields.rule, fix: portFix };
  return portSpec({ published: fields.ok["target"], ...fields.ok });
};

/** `80`, `80/tcp`, or `target=80,name=http`: a port inside the cluster only. */
export const exposedPort: Parser<PortSpec> = (text) => {
  const fix = "write for example 80, or target=80,name=http";
  const short = /^(\d+)(?:\/([a-z]+))?$/i.exec(text);
  if (short !== null) return portSpec({ published: null, target: short[1], protocol: short[2] });
  if (!text.includes("=")) return { rule: "must be TARGET[/tcp]", fix };
  const fields = fieldsOf(text, ["target", "protocol", "name"]);
  return "ok" in fields ? portSpec({ published: null, ...fields.ok }) : { rule: fields.rule, fix };
};

function portSpec(parts: {
  /** null: inside the cluster only. */
  published?: string | null | undefined;
  target?: string | undefined;
  protocol?: string | undefined;
  name?: string | undefined;
  mode?: string | undefined;
}): Parsed<PortSpec> {
  const numbers: number[] = [];
  for (const [what, text] of [
    ["target", parts.target],
    ["published", parts.published],
  ] as const) {
    if (text === undefined) return { rule: `has no ${what} port`, fix: portFix };
    const parsed = text === null ? { ok: 0 } : port(text);
    if (!("ok" in parsed)) return { rule: `has the ${what} port ${text}, which ${parsed.rule}`, fix: portFix };
    numbers.push(parsed.ok);
  }
  const protocol = (parts.protocol ?? "tcp").toLowerCase();
  if (protocol !== "tcp")
    return { rule: `has the protocol ${protocol}, but only tcp ports can be published`, fix: "leave the protocol out" };
  const mode = modes.get(parts.mode ?? "ingress");
  if (mode === undefined)
    return {
      rule: `has mode=${parts.mode}, which must be ingress (on every host) or host (on the task's own)`,
      fix: "leave mode out, or write mode=host",
    };
  const [targetPort = 0, publishedPort = 0] = numbers;
  return { ok: { protocol: Protocol.TCP, targetPort, publishedPort, name: parts.name ?? "", mode } };
}
