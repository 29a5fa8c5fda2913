// The flags of `service create` and `service update`, each defined once: how it looks, how its value is read, and
// what it changes in a spec. Here are the container and its ports; the others are in service-….ts, by what they are about.

import { readFileSync } from "node:fs";
import { messageOf } from "../../lib/errors.js";
import { type PortSpec, PullPolicy, type ServiceSpec } from "../../proto/gen/flotilla/objects/v1/objects.js";
import type { Flag } from "./flag.js";
import { mount } from "./mounts.js";
import * as as from "./parsers.js";
import { exposedPort, publishedPort } from "./ports.js";
import type { Parser } from "./reader.js";
import {
  container,
  type Draft,
  draft,
  type Given,
  many,
  one,
  removeFrom,
  removeKey,
  type ServiceFlag,
  text,
  toggle,
} from "./service-flag.js";
import { careFlags } from "./service-care.js";
import { modeFlags } from "./service-mode.js";
import { placementFlags } from "./service-placement.js";
import { rolling } from "./service-updates.js";

export { type Draft, emptySpec } from "./service-flag.js";

/** Applies every given flag to a copy of the spec. What is wrong is in the reader then. */
export function applyFlags(
  from: ServiceSpec,
  command: "create" | "update",
  rest: Omit<Given, "spec" | "command">,
): Draft {
  const spec = draft(from);
  for (const { flag, on, apply } of serviceFlags)
    if ((on === "both" || on === command) && rest.flags.has(flag.long)) apply({ spec, command, ...rest });
  return spec;
}

export function flagsOf(command: "create" | "update"): Flag[] {
  const flags = serviceFlags.filter(({ on }) => on === "both" || on === command).map(({ flag }) => flag);
  // An update leaves what it does not name as it is: the default is of a new service.
  return command === "create"
    ? flags
    : flags.map((flag) => ({ ...flag, help: flag.help.replace(/ \(default [^)]*\)$/, "") }));
}

const basics = "What runs:";
const reach = "How it is reached:";

function setEnv(spec: Draft, entry: string | undefined): void {
  if (entry === undefined) return;
  const { env } = container(spec);
  const at = env.findIndex((other) => as.keyOf(other) === as.keyOf(entry));
  if (at < 0) env.push(entry);
  else env[at] = entry;
}

const targetPort: Parser<string> = (value) => {
  const target = /^(?:\d+:)?(\d+)(?:\/tcp)?$/.exec(value)?.[1];
  const parsed = as.port(target ?? "");
  return "ok" in parsed
    ? { ok: String(parsed.ok) }
    : { rule: "must be the port inside the container", fix: "write for example 80" };
};

const samePort = (a: PortSpec) => (b: PortSpec) =>
  a.targetPort === b.targetPort && a.publishedPort === b.publishedPort && a.protocol === b.protocol;

function addPort(spec: Draft, port: PortSpec, replace: boolean): void {
  if (replace) removeFrom(spec.ports, samePort(port));
  spec.ports.push(port);
}

function envFile(given: Given): void {
  const { spec, flags, env } = given;
  for (const file of flags.all("env-file")) {
    let content: string;
    try {
      content = readFileSync(file, "utf8");
    } catch (error) {
      flags.report({
        field: "--env-file",
        value: file,
        rule: `cannot be read: ${messageOf(error)}`,
        fix: "name a readable file",
      });
      continue;
    }
    const lines = content.replace(/^\ufeff/, "").split(/\r?\n/);
    for (const [i, line] of lines.entries()) {
      const entry = line.trimStart();
      if (entry === "" || entry.startsWith("#")) continue;
      setEnv(spec, flags.parse(`--env-file ${file}:${i + 1}`, entry, as.env(env)));
    }
  }
}

const policies = { missing: PullPolicy.MISSING, always: PullPolicy.ALWAYS, never: PullPolicy.NEVER } as const;

/** In the order in which they are applied. */
export const serviceFlags: readonly ServiceFlag[] = [
  {
    ...one(basics, { long: "name", value: "NAME", help: "name of the service, and in DNS" }, text, (spec, value) => {
      spec.name = value;
    }),
    on: "create",
  },
  ...modeFlags,
  {
    ...one(basics, { long: "image", value: "IMAGE", help: "the image" }, as.nonEmpty, (spec, value) => {
      container(spec).image = value;
    }),
    on: "update",
  },
  {
    ...one(
      basics,
      { long: "args", value: "WORDS", help: "the command's arguments, as a shell splits them" },
      as.words,
      (spec, value) => {
        container(spec).args = value;
      },
    ),
    on: "update",
  },
  one(
    basics,
    { long: "entrypoint", value: "WORDS", help: "replaces the image's entrypoint" },
    as.words,
    (spec, value) => {
      container(spec).command = value;
    },
  ),
  {
    flag: { long: "env-file", value: "FILE", help: "environment from a file (repeatable)", group: basics },
    on: "create",
    apply: envFile,
  },
  ...many(
    basics,
    { long: "env", short: "e", value: "NAME=VALUE", help: "environment" },
    as.env,
    { value: "NAME", parse: as.nonEmpty },
    {
      add: setEnv,
      remove: (spec, key) => removeFrom(container(spec).env, (entry) => as.keyOf(entry) === key),
    },
  ),
  ...many(
    basics,
    { long: "label", short: "l", value: "KEY=VALUE", help: "label of the service" },
    () => as.label,
    { value: "KEY", parse: as.labelKey },
    {
      add: (spec, [key, value]) => {
        spec.labels[key] = value;
      },
      remove: (spec, key) => removeKey(spec.labels, key),
    },
  ),
  ...many(
    basics,
    { long: "container-label", value: "KEY=VALUE", help: "label of the containers" },
    () => as.label,
    { value: "KEY", parse: as.labelKey },
    {
      add: (spec, [key, value]) => {
        container(spec).labels[key] = value;
      },
      remove: (spec, key) => removeKey(container(spec).labels, key),
    },
  ),
  ...many(
    basics,
    { long: "mount", value: "MOUNT", help: "type=bind|volume|tmpfs,src=…,dst=…[,ro][,volume-driver=…]" },
    () => mount,
    { value: "PATH", parse: as.nonEmpty },
    {
      add: (spec, mount, replace) => {
        const { mounts } = container(spec);
        if (replace) removeFrom(mounts, ({ target }) => target === mount.target);
        mounts.push(mount);
      },
      remove: (spec, key) => removeFrom(container(spec).mounts, ({ target }) => target === key),
    },
  ),
  one(
    basics,
    { long: "user", short: "u", value: "USER", help: "user[:group] in the container" },
    text,
    (spec, value) => {
      container(spec).user = value;
    },
  ),
  one(basics, { long: "workdir", short: "w", value: "DIR", help: "working directory" }, text, (spec, value) => {
    container(spec).workingDir = value;
  }),
  one(basics, { long: "hostname", value: "NAME", help: "host name in the container" }, text, (spec, value) => {
    container(spec).hostname = value;
  }),
  ...toggle(basics, { long: "init", help: "a small init in front of the process" }, (spec, value) => {
    container(spec).init = value;
  }),
  ...toggle(basics, { long: "tty", short: "t", help: "a terminal" }, (spec, value) => {
    container(spec).tty = value;
  }),
  ...toggle(basics, { long: "read-only", help: "the container's files cannot be written" }, (spec, value) => {
    container(spec).readOnly = value;
  }),
  one(
    basics,
    {
      long: "pull-policy",
      value: "POLICY",
      help: "missing, always or never (default missing)",
      complete: Object.keys(policies),
    },
    as.oneOf<PullPolicy>(policies),
    (spec, value) => {
      container(spec).pullPolicy = value;
    },
  ),

  ...many(
    reach,
    {
      long: "publish",
      short: "p",
      value: "PORT",
      help: "port on every host: 8080:80, 80, published=8080,target=80,name=http[,mode=host]",
    },
    () => publishedPort,
    { value: "PORT", parse: targetPort },
    {
      add: addPort,
      remove: (spec, key) =>
        removeFrom(spec.ports, (port) => port.publishedPort !== 0 && port.targetPort === Number(key)),
    },
  ),
  ...many(
    reach,
    { long: "expose", value: "PORT", help: "port inside the cluster only: 80, or target=80,name=http" },
    () => exposedPort,
    { value: "PORT", parse: targetPort },
    {
      add: addPort,
      remove: (spec, key) =>
        removeFrom(spec.ports, (port) => port.publishedPort === 0 && port.targetPort === Number(key)),
    },
  ),

  ...placementFlags,
  ...careFlags,
  ...rolling("update"),
  ...rolling("rollback"),
];
