// Lines of JSON out of a stream of bytes: events and pull progress come so. A line that is not JSON is skipped and
// told to `onGarbage`, since what follows it is still good.

/** A line that does not end by then is garbage: the engine's own are a few kilobytes. */
const lineBytesMax = 1 << 20;

export async function* jsonLines(
  chunks: AsyncIterable<Buffer>,
  onGarbage: (line: string) => void,
): AsyncGenerator<unknown, void, undefined> {
  let rest: Buffer = Buffer.alloc(0);
  let skipping = false;
  for await (const chunk of chunks) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      const line = rest.subarray(0, end).toString("utf8").trim();
      rest = rest.subarray(end + 1);
      if (skipping) {
        skipping = false;
        continue;
      }
      if (line === "") continue;
      const value = parse(line);
      if (value === undefined) onGarbage(line.slice(0, 200));
      else yield value.json;
    }
    if (rest.length > lineBytesMax) {
      if (!skipping) onGarbage(rest.subarray(0, 200).toString("utf8"));
      skipping = true;
      rest = Buffer.alloc(0);
    }
  }
}

function parse(line: string): { json: unknown } | undefined {
  try {
    return { json: JSON.parse(line) as unknown };
  } catch (failure) {
    if (failure instanceof SyntaxError) return undefined;
    throw failure;
  }
}
