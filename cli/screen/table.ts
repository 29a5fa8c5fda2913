// Rows as columns, as Docker prints them, or through a template, or as JSON: one definition of the fields for all.

import { UsageError } from "../exit.js";
import { plain, safeJson, widthOf } from "./text.js";

export interface Column<Row> {
  /** For `{{.Key}}`. */
  key: string;
  header: string;
  get: (row: Row) => string;
  /** Only reachable by a template. */
  hidden?: true;
}

export function renderTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const shown = columns.filter((column) => column.hidden !== true);
  const lines = [shown.map(({ header }) => header), ...rows.map((row) => shown.map(({ get }) => plain(get(row))))];
  return align(lines);
}

/** Three spaces between columns and none at the end, as Docker's. */
function align(lines: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const line of lines)
    line.forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? 0, widthOf(cell));
    });
  return lines
    .map((line) =>
      line
        .map((cell, i) => (i === line.length - 1 ? cell : cell + " ".repeat((widths[i] ?? 0) - widthOf(cell) + 3)))
        .join("")
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join("");
}

export type Format = { kind: "table" } | { kind: "json" } | { kind: "template"; text: string; table: boolean };

/** `table`, `json`, `{{.ID}}: {{.Name}}` or `table {{.ID}}\t{{.Name}}`; undefined is the plain table. */
export function parseFormat(format: string | undefined, json: boolean): Format {
  if (json || format === "json") return { kind: "json" };
  if (format === undefined || format === "table" || format === "") return { kind: "table" };
  const table = /^table\s+/.exec(format);
  return { kind: "template", text: table === null ? format : format.slice(table[0].length), table: table !== null };
}

export interface Listing<Row> {
  columns: readonly Column<Row>[];
  rows: readonly Row[];
  toJson: (row: Row) => unknown;
}

export function renderListing<Row>({ columns, rows, toJson }: Listing<Row>, format: Format): string {
  if (format.kind === "json") return `${safeJson(rows.map(toJson), 2)}\n`;
  if (format.kind === "table") return renderTable(columns, rows);
  const pieces = parseTemplate(format.text, columns);
  const line = (of: (piece: Exclude<Piece<Row>, string>) => string) =>
    pieces.map((piece) => (typeof piece === "string" ? piece : of(piece))).join("");
  const lines = rows.map((row) => line((piece) => ("json" in piece ? safeJson(toJson(row)) : plain(piece.get(row)))));
  if (!format.table) return lines.map((text) => `${text}\n`).join("");
  const header = line((piece) => ("json" in piece ? "" : piece.header));
  return align([header, ...lines].map((text) => text.split("\t")));
}

/** Text, the row as JSON, or a field. */
type Piece<Row> = string | { json: true } | Column<Row>;

function parseTemplate<Row>(text: string, columns: readonly Column<Row>[]): Piece<Row>[] {
  const refuse = (value: string) =>
    new UsageError([
      {
        field: "--format",
        value,
        rule: "is not something that this list has",
        fix: `use table, json, {{json .}} or fields of ${columns.map(({ key }) => `{{.${key}}}`).join(" ")}`,
      },
    ]);
  const pieces: Piece<Row>[] = [];
  let at = 0;
  for (const match of text.matchAll(/\{\{(.*?)\}\}/g)) {
    pieces.push(unescape(text.slice(at, match.index)));
    at = match.index + match[0].length;
    const inner = (match[1] ?? "").trim();
    const column = columns.find(({ key }) => inner === `.${key}`);
    if (inner === "json .") pieces.push({ json: true });
    else if (column === undefined) throw refuse(match[0]);
    else pieces.push(column);
  }
  if (at === 0 || text.slice(at).includes("{{")) throw refuse(text);
  pieces.push(unescape(text.slice(at)));
  return pieces;
}

function unescape(text: string): string {
  return text.replaceAll("\\t", "\t").replaceAll("\\n", "\n");
}
