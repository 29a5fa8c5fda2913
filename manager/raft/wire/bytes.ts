// Numbers and byte strings, written and read: the alphabet of the formats beside this file. Numbers are unsigned, up to
// 2^53 - 1, in groups of seven bits with the low ones first (LEB128), and always in their shortest form.

/** Bytes that are not what they should be. The only error that reading them throws. */
export class WireError extends Error {
  override name = "WireError";
}

/** A number takes at most this many bytes. */
export const numberBytesMax = 8;

/** Grows as it is written to. For headers: what is long is handed on as a part of its own, never copied in here. */
export class ByteWriter {
  #bytes: Uint8Array;
  #length = 0;

  constructor(bytes = 64) {
    this.#bytes = new Uint8Array(bytes);
  }

  byte(value: number): this {
    this.#room(1);
    this.#bytes[this.#length++] = value;
    return this;
  }

  number(value: number): this {
    this.#room(numberBytesMax);
    this.#length = putNumber(this.#bytes, this.#length, value);
    return this;
  }

  numbers(values: readonly number[]): this {
    this.number(values.length);
    for (const value of values) {
      this.number(value);
    }
    return this;
  }

  raw(bytes: Uint8Array): this {
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
    return this;
  }

  /** What was written; the writer is not to be used any more. */
  end(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  #room(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
      grown.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = grown;
    }
  }
}

/** Reads from the front; whatever is wrong is a WireError that says where. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #what: string;
  #at = 0;

  /** @param what What the bytes are said to be, for messages: "an entry". */
  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = bytes;
    this.#what = what;
  }

  get remaining(): number {
    return this.#bytes.length - this.#at;
  }

  byte(field: string): number {
    const value = this.#bytes[this.#at];
    if (value === undefined) {
      throw this.wrong(field, "is missing: the bytes end before it");
    }
    this.#at++;
    return value;
  }

  /** Between `least` and 2^53 - 1. */
  number(field: string, least = 0): number {
    let value = this.byte(field);
    if (value >= 0x80) {
      value &= 0x7f;
      let scale = 0x80;
      for (let length = 2; ; length++) {
        const next = this.byte(field);
        if (length === numberBytesMax && next > 0x0f) {
          throw this.wrong(field, "is above 2^53 - 1");
        }
        value += (next & 0x7f) * scale;
        if (next < 0x80) {
          if (next === 0) {
            throw this.wrong(field, "is not in its shortest form");
          }
          break;
        }
        scale *= 0x80;
      }
    }
    if (value < least) {
      throw this.wrong(field, `is ${value}, less than ${least}`);
    }
    return value;
  }

  /** How many items of at least `bytesEach` follow: never more than could be there. */
  count(field: string, bytesEach: number): number {
    const count = this.number(field);
    if (count * bytesEach > this.remaining) {
      throw this.wrong(field, `says ${count}, more than the ${this.remaining} bytes after it can hold`);
    }
    return count;
  }

  /** A view of the next bytes, not a copy. */
  take(field: string, bytes: number): Uint8Array {
    if (bytes > this.remaining) {
      throw this.wrong(field, `has ${bytes} bytes, but ${this.remaining} are left`);
    }
    const view = this.#bytes.subarray(this.#at, this.#at + bytes);
    this.#at += bytes;
    return view;
  }

  rest(): Uint8Array {
    return this.take("rest", this.remaining);
  }

  /** Nothing may follow. */
  end(): void {
    if (this.remaining > 0) {
      throw this.wrong("end", `is expected, but ${this.remaining} bytes follow`);
    }
  }

  wrong(field: string, problem: string): WireError {
    return new WireError(`malformed ${this.#what}: ${field} ${problem} (at byte ${this.#at} of ${this.#bytes.length})`);
  }
}

/** Writes the number at `at`, where there must be room for `numberBytesMax`; answers where it ends. */
export function putNumber(bytes: Uint8Array, at: number, value: number): number {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new RangeError(`only integers from 0 to 2^53 - 1 can be written, not ${value}`);
  }
  let rest = value;
  let end = at;
  while (rest >= 0x8000_0000) {
    bytes[end++] = (rest % 0x80) | 0x80;
    rest = Math.floor(rest / 0x80);
  }
  while (rest >= 0x80) {
    bytes[end++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  bytes[end++] = rest;
  return end;
}

export function numberBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 0x80; rest /= 0x80) {
    bytes++;
  }
  return bytes;
}
