// `{{.spec.ports}}`: a template over the JSON of one object, as Docker's for inspect.

import { UsageError } from "../exit.js";
import { plain, safeJson } from "./text.js";

/** Text, or a way into the object: upper and lower case are the same, numbers are places in a list. */
type Piece = string | { path: readonly string[]; json: boolean };

/** A function that fills the template in; throws a UsageError for what is no template, or names no field. */
export function parsePaths(text: string): (value: unknown) => string {
  const pieces: Piece[] = [];
  let at = 0;
  for (const match of text.matchAll(/\{\{\s*(json\s+)?\.([\w.-]*)\s*\}\}/g)) {
    pieces.push(literal(text.slice(at, match.index), text));
    at = match.index + match[0].length;
    const path = (match[2] ?? "").split(".").filter((part) => part !== "");
    pieces.push({ path, json: match[1] !== undefined || path.length === 0 });
  }
  if (at === 0) throw refusal(text, "is no template");
  pieces.push(literal(text.slice(at), text));
  return (value) => pieces.map((piece) => (typeof piece === "string" ? piece : fill(piece, value))).join("");
}

function literal(part: string, whole: string): string {
  if (part.includes("{{")) throw refusal(whole, "has something between {{ and }} that is no path");
  return part.replaceAll("\\t", "\t").replaceAll("\\n", "\n");
}

function fill({ path, json }: Exclude<Piece, string>, value: unknown): string {
  let found = value;
  for (const [i, part] of path.entries()) {
    const fields = typeof found === "object" && found !== null ? Object.entries(found) : [];
    const field = fields.find(([key]) => key.toLowerCase() === part.toLowerCase());
    if (field === undefined) {
      const where = i === 0 ? "" : ` in .${path.slice(0, i).join(".")}`;
      const known = fields.map(([key]) => key).join(", ");
      throw refusal(
        `.${path.join(".")}`,
        `has "${part}", which is no field${where}`,
        `use one of ${known || "none: it is empty"}`,
      );
    }
    found = field[1];
  }
  if (json) return safeJson(found);
  return typeof found === "string" ? plain(found) : safeJson(found);
}

function refusal(value: string, rule: string, fix = "write for example {{.name}} or {{json .spec.ports}}"): UsageError {
  return new UsageError([{ field: "--format", value, rule, fix }]);
}
