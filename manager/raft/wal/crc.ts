// CRC-32C (Castagnoli; RFC 3720 appendix B.4), eight bytes at a step: every byte that goes to disk passes through here.

const tables = makeTables();

function makeTables(): Int32Array {
  const made = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) {
      crc = (crc >>> 1) ^ (crc & 1 ? 0x82f6_3b78 : 0);
    }
    made[byte] = crc;
  }
  for (let at = 256; at < made.length; at++) {
    const before = made[at - 256] ?? 0;
    made[at] = (before >>> 8) ^ (made[before & 0xff] ?? 0);
  }
  return made;
}

/** Of bytes[from … to); `crc` is that of what came before, so that parts can be taken one after another. */
export function crc32c(bytes: Uint8Array, crc = 0, from = 0, to = bytes.length): number {
  const t = tables;
  let c = ~crc;
  let at = from;
  // Every index is in range by construction; a check of each would cost a third of the speed.
  for (const end = to - 7; at < end; at += 8) {
    c ^=
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24);
    c =
      (t[1792 + (c & 0xff)] as number) ^
      (t[1536 + ((c >>> 8) & 0xff)] as number) ^
      (t[1280 + ((c >>> 16) & 0xff)] as number) ^
      (t[1024 + (c >>> 24)] as number) ^
      (t[768 + (bytes[at + 4] as number)] as number) ^
      (t[512 + (bytes[at + 5] as number)] as number) ^
      (t[256 + (bytes[at + 6] as number)] as number) ^
      (t[bytes[at + 7] as number] as number);
  }
  for (; at < to; at++) {
    c = (c >>> 8) ^ (t[(c ^ (bytes[at] as number)) & 0xff] as number);
  }
  return ~c >>> 0;
}
