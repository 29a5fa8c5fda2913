// One measured comparison, and how it is printed.

export interface Figure {
  /** What was measured, unit last: "create 30 to running, s". */
  name: string;
  ours: number;
  /** Who was measured beside us. */
  peerName: string;
  /** NaN where nothing is beside it. */
  peer: number;
  /** ours / peer that we aim at, as text: "<= 0.35". */
  goal: string;
}

export interface Benchmark {
  name: string;
  help: string;
  run(report: { progress: (line: string) => void; rounds: number | undefined }): Promise<Figure[]>;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

export function ratio({ ours, peer }: Figure): number {
  return ours / peer;
}

/** Nothing where there is nothing to compare with. */
function number(value: number, digits: number): string {
  return Number.isFinite(value) ? value.toFixed(digits) : "";
}

/** A table for people. */
export function table(figures: readonly Figure[]): string {
  const rows = [
    ["FIGURE", "OURS", "PEER", "", "RATIO", "GOAL"],
    ...figures.map((figure) => [
      figure.name,
      number(figure.ours, 3),
      number(figure.peer, 3),
      figure.peerName,
      number(ratio(figure), 2),
      figure.goal,
    ]),
  ];
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
