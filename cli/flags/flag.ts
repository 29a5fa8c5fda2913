// A flag as data. Commands list theirs; help, completion and parsing all read the same list.

/** How one flag looks on the command line. */
export interface Flag {
  /** Without the dashes. */
  long: string;
  short?: string;
  /** What stands for the value in the help; a flag without one takes none. */
  value?: string;
  /** The flag may stand without its value: that is "true". */
  optional?: true;
  help: string;
  /** Heading in the help. */
  group?: string;
  /** What completion offers for the value. */
  complete?: readonly string[] | "services" | "nodes";
}

/** Of every command. */
export const globalFlags: readonly Flag[] = [
  { long: "host", short: "H", value: "ADDRESS:7400[,…]", help: "managers to talk to (or FLOTILLA_HOST)" },
  { long: "context", short: "c", value: "NAME", help: "cluster of this name, as the lab makes them" },
  { long: "json", help: "print JSON" },
  { long: "no-color", help: "no colours (or NO_COLOR)" },
].map((flag) => ({ ...flag, group: "Global options:" }));

export const formatFlag: Flag = {
  long: "format",
  value: "FORMAT",
  help: "table, json, or a template such as '{{.ID}} {{.Name}}'",
  complete: ["table", "json"],
};
export const noTruncFlag: Flag = { long: "no-trunc", help: "do not shorten ids and messages" };
export const quietFlag: Flag = { long: "quiet", short: "q", help: "only ids" };
export const filterFlag: Flag = {
  long: "filter",
  short: "f",
  value: "KEY=VALUE",
  help: "only what matches (repeatable)",
};
