// Durations, sizes and cores, as Docker's command line reads and writes them. Parsing answers undefined for what is
// not such a quantity: the caller knows the field and says what is wrong with it.

const durationUnits: Readonly<Record<string, number>> = { us: 0.001, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Go's duration form, "1m30s" or "500ms", in whole milliseconds; a bare 0 is allowed. */
export function parseDurationMs(text: string): number | undefined {
  if (text === "0") return 0;
  if (!/^(\d+(\.\d+)?(us|ms|s|m|h))+$/.test(text)) return undefined;
  let ms = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(us|ms|s|m|h)/g))
    ms += Number(amount) * (durationUnits[unit ?? ""] ?? Number.NaN);
  return Number.isSafeInteger(Math.round(ms)) ? Math.round(ms) : undefined;
}

/** "1m30s", "500ms", "0s". */
export function formatDurationMs(ms: number): string {
  if (ms < 1000) return ms === 0 ? "0s" : `${Math.round(ms)}ms`;
  const hours = Math.floor(ms / 3_600_000);
  const minutes = Math.floor((ms % 3_600_000) / 60_000);
  const seconds = Math.round((ms % 60_000) / 100) / 10;
  return `${hours > 0 ? `${hours}h` : ""}${minutes > 0 ? `${minutes}m` : ""}${seconds > 0 || ms < 60_000 ? `${seconds}s` : ""}`;
}

const byteUnits: Readonly<Record<string, number>> = { "": 1, b: 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 };

/** Docker's size form, "512m", "1.5g", "1024" or "2GiB", in bytes; powers of 1024 throughout, as Docker's. */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?) ?([kmgt]?)(?:i?b)?$/i.exec(text);
  if (match === null) return undefined;
  const bytes = Math.floor(Number(match[1]) * (byteUnits[(match[2] ?? "").toLowerCase()] ?? Number.NaN));
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** "412 MiB", "1.5 GiB". */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value >= 100 || Number.isInteger(value) ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** "1.5" cores in billionths of a core; at most nine decimals count. */
export function parseNanoCpus(text: string): number | undefined {
  if (!/^\d+(\.\d{1,9})?$/.test(text)) return undefined;
  const nano = Math.round(Number(text) * 1e9);
  return Number.isSafeInteger(nano) ? nano : undefined;
}

/** "1.5". */
export function formatNanoCpus(nanoCpus: number): string {
  return String(Math.round(nanoCpus / 1e6) / 1e3);
}
