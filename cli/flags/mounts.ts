// Mounts as they are written on the command line.

import { type Mount, MountType } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { fieldsOf } from "./fields.js";
import type { Parser } from "./reader.js";

/** `type=bind|volume|tmpfs,src=…,dst=…[,ro][,volume-driver=…]`, as Docker's --mount. */
export const mount: Parser<Mount> = (text) => {
  const fix = "write for example type=volume,src=data,dst=/var/lib/data or type=bind,src=/srv,dst=/srv,ro";
  const aliases: Readonly<Record<string, string>> = {
    type: "type",
    src: "source",
    source: "source",
    dst: "target",
    destination: "target",
    target: "target",
    ro: "readonly",
    readonly: "readonly",
    "volume-driver": "volume-driver",
  };
  const fields = fieldsOf(text, Object.keys(aliases), ["ro", "readonly"]);
  if (!("ok" in fields)) return { rule: fields.rule, fix };
  const by: Record<string, string> = {};
  for (const [key, value] of Object.entries(fields.ok)) {
    const name = aliases[key] ?? key;
    if (by[name] !== undefined) return { rule: `says ${name} twice`, fix };
    by[name] = value;
  }
  const types: Readonly<Record<string, MountType>> = {
    bind: MountType.BIND,
    volume: MountType.VOLUME,
    tmpfs: MountType.TMPFS,
  };
  const typeName = by["type"] ?? "volume";
  const type = Object.hasOwn(types, typeName) ? types[typeName] : undefined;
  const source = by["source"] ?? "";
  const target = by["target"] ?? "";
  if (type === undefined) return { rule: `has type=${typeName}, which must be bind, volume or tmpfs`, fix };
  if (!target.startsWith("/")) return { rule: "needs a target (dst=) that is an absolute path", fix };
  if (type === MountType.BIND && !source.startsWith("/"))
    return { rule: "needs a source (src=) that is an absolute path", fix };
  if (type === MountType.TMPFS && source !== "") return { rule: "is tmpfs, which has no source", fix: "leave src out" };
  const volumeDriver = by["volume-driver"] ?? "";
  if (by["volume-driver"] !== undefined && type !== MountType.VOLUME)
    return {
      rule: `has a volume-driver, which only volumes have, and is a ${typeName}`,
      fix: "leave volume-driver out",
    };
  if (by["volume-driver"] === "")
    return { rule: "has an empty volume-driver", fix: "leave it out for the engine's own" };
  const readonly = by["readonly"];
  if (readonly !== undefined && !["true", "false", "1", "0", ""].includes(readonly))
    return { rule: `has readonly=${readonly}, which must be true or false`, fix };
  return {
    ok: {
      type,
      source,
      target,
      readOnly: readonly !== undefined && readonly !== "false" && readonly !== "0",
      volumeDriver,
    },
  };
};
