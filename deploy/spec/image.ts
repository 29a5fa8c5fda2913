// Image references as Docker reads them: [registry[:port]/]path[:tag][@sha256:…].
// The grammar is that of github.com/distribution/reference, reference.go; which first part is a registry is decided
// as Docker does: it has a dot or a colon, is "localhost", or has an upper-case letter.

import { limits } from "./limits.js";

export interface ImageReference {
  /** docker.io when none was written. */
  registry: string;
  /** With library/ before Docker's official images. */
  path: string;
  /** latest when neither tag nor digest was written; empty when there is only a digest. */
  tag: string;
  /** sha256:…, or empty. */
  digest: string;
}

export type ParsedImage = { image: ImageReference } | { rule: string; fix: string };

const registryPattern =
  /^(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[a-fA-F0-9:]+\])(?::(\d+))?$/;
const pathPartPattern = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const tagPattern = /^\w[\w.-]{0,127}$/;
const digestPattern = /^sha256:[a-f0-9]{64}$/;
const identifierPattern = /^[a-f0-9]{64}$/;

/** Reads an image reference, or says which rule it breaks and what to write. */
export function parseImage(text: string): ParsedImage {
  const example = "write for example nginx:1.27 or registry.example.com:5000/team/web:1.0";
  if (text === "") return { rule: "must name an image", fix: example };
  if (text.length > limits.imageLength)
    return { rule: `must have at most ${limits.imageLength} characters`, fix: "use a shorter name" };
  if (/\s/.test(text)) return { rule: "must not contain white space", fix: example };
  if (text.includes("://")) return { rule: "must not have a scheme", fix: `write ${text.replace(/^[^/]*:\/\//, "")}` };

  const at = text.indexOf("@");
  const digest = at < 0 ? "" : text.slice(at + 1);
  const named = at < 0 ? text : text.slice(0, at);
  if (at >= 0 && !digestPattern.test(digest))
    return {
      rule: "must have a digest of the form sha256: and 64 lower-case hexadecimal digits after @",
      fix: "copy it from docker image inspect",
    };

  const slash = named.indexOf("/");
  const first = slash < 0 ? "" : named.slice(0, slash);
  const hasRegistry = /[.:A-Z]/.test(first) || first === "localhost";
  const rest = hasRegistry ? named.slice(slash + 1) : named;
  if (hasRegistry) {
    const match = registryPattern.exec(first);
    if (match === null) return { rule: `must begin with a registry's host name, "${first}" is none`, fix: example };
    if (match[1] !== undefined && (Number(match[1]) < 1 || Number(match[1]) > 65_535))
      return { rule: "must have a registry port from 1 to 65535", fix: "use for example port 5000" };
  }

  const colon = rest.indexOf(":");
  const path = colon < 0 ? rest : rest.slice(0, colon);
  const tag = colon < 0 ? "" : rest.slice(colon + 1);
  if (colon >= 0 && !tagPattern.test(tag))
    return {
      rule: "must have a tag of 1 to 128 letters, digits, _, . and -, not beginning with . or -",
      fix: tag === "" ? `write ${text.replace(/:(?=@|$)/, "")} for the newest, or name a tag` : example,
    };
  if (path === "") return { rule: "must name an image", fix: example };
  for (const part of path.split("/")) {
    if (pathPartPattern.test(part)) continue;
    if (/[A-Z]/.test(part))
      return { rule: "must have a lower-case repository name", fix: `write ${text.replace(path, path.toLowerCase())}` };
    return {
      rule: `must be lower-case letters and digits, separated by one ., _, __ or by -, between slashes; "${part}" is not`,
      fix: example,
    };
  }
  if (!hasRegistry && !path.includes("/") && identifierPattern.test(path))
    return { rule: "must be a name, not an image's id", fix: `write its name and @sha256:${path}` };
  // Docker's limit is on the whole repository name, without tag and digest.
  const whole = hasRegistry ? `${first}/${path}` : path;
  if (whole.length > 255)
    return { rule: "must have a repository name of at most 255 characters", fix: "use a shorter name" };
  return {
    image: {
      registry: hasRegistry ? first : "docker.io",
      path: (!hasRegistry || first === "docker.io") && !path.includes("/") ? `library/${path}` : path,
      tag: tag === "" && digest === "" ? "latest" : tag,
      digest,
    },
  };
}
