// Text from elsewhere on the user's terminal: names, messages and logs come from other people's programs, and must
// neither move the cursor, nor set the title, nor reorder what is read.

/* oxlint-disable no-control-regex -- control characters are what this file is about. */

// Escape sequences: CSI, OSC and the other strings up to their terminator, and two-byte ones.
const escapes =
  /\u001b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_](?:[^\u0007\u001b]|\u001b(?!\\))*(?:\u0007|\u001b\\)?|[ -/]*[0-~])?/g;
// C0 but tab and newline, DEL and C1.
const controls = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;
// What changes the direction or hides: bidi embeddings, overrides, isolates and marks, zero widths, separators.
const invisible = /[\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff]/g;
const colours = /^\u001b\[[0-9;:]*m$/;

/** One line of plain text: for names and messages, on any output. */
export function plain(text: string): string {
  return text
    .replace(escapes, "")
    .replace(/[\r\n\t]+/g, " ")
    .replace(controls, "")
    .replace(invisible, "");
}

/** As `plain`, but lines stay lines. */
export function plainLines(text: string): string {
  return text.split(/\r?\n/).map(plain).join("\n");
}

/** A log line for a terminal: tabs stay, and colours if asked for; nothing else may steer. */
export function logText(text: string, colour: boolean): string {
  let coloured = false;
  const kept = text.replaceAll("\ufdd0", "").replace(escapes, (sequence) => {
    if (!colour || !colours.test(sequence)) return "";
    coloured = true;
    // Kept from the next replacement by a noncharacter, which is dropped from the text before.
    return `\ufdd0${sequence.slice(1)}`;
  });
  const clean = kept
    .replace(/[\u0000-\u0008\u000a-\u001f\u007f-\u009f]/g, "")
    .replace(invisible, "")
    .replaceAll("\ufdd0", "\u001b");
  return coloured ? `${clean}\u001b[0m` : clean;
}

/** JSON that is as harmless on a terminal as it is exact. */
export function safeJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, undefined, indent).replace(
    /[\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** How many columns a text takes. Counts code points: enough for names, which are ASCII when they are sane. */
export function widthOf(text: string): number {
  return Array.from(text).length;
}

/** Cut to a width, with a mark that it was. */
export function clip(text: string, width: number): string {
  const points = Array.from(text);
  return points.length <= width ? text : `${points.slice(0, Math.max(0, width - 1)).join("")}…`;
}

/** "3 tasks", "1 task". */
export function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}
