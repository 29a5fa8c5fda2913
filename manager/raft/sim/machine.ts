// The replicated state under test: registers and lists by key, and what each client's last request answered, so that a
// request retried under its id takes effect once. Deliberately small: its faults would be the checkers' blind spots.

export type Command = { kind: "write"; key: string; value: number } | { kind: "append"; key: string; value: number };

export interface Request {
  client: number;
  /** Ascending per client; a client has one request under way. */
  number: number;
  command: Command;
  /** Bytes that only fill messages and logs. */
  padding: string;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export function encodeRequest(request: Request): Uint8Array {
  const { client, number, command, padding } = request;
  return encoder.encode(`${client} ${number} ${command.kind} ${command.key} ${command.value} ${padding}`);
}

export function decodeRequest(data: Uint8Array): Request {
  const [client = "", number = "", kind = "", key = "", value = "", padding = ""] = decoder.decode(data).split(" ");
  if (kind !== "write" && kind !== "append") throw new Error(`simulated machine: no such command: ${kind}`);
  return {
    client: Number(client),
    number: Number(number),
    command: { kind, key, value: Number(value) },
    padding,
  };
}

/** FNV-1a over bytes, 32 bits. */
export function digestOf(bytes: Uint8Array, from = 0x811c_9dc5): number {
  let hash = from;
  for (let i = 0; i < bytes.length; i += 1) hash = Math.imul(hash ^ (bytes[i] ?? 0), 0x0100_0193);
  return hash >>> 0;
}

export class Machine {
  /** Values as text: a register's last value, a list's values joined by commas. Absent is "". */
  readonly #values = new Map<string, string>();
  readonly #answered = new Map<number, number>();
  /** Requests that came a second time and did nothing. */
  repeated = 0;

  apply(request: Request): void {
    const last = this.#answered.get(request.client) ?? 0;
    if (request.number <= last) {
      this.repeated += 1;
      return;
    }
    this.#answered.set(request.client, request.number);
    const { kind, key, value } = request.command;
    const old = this.#values.get(key);
    this.#values.set(key, kind === "write" || old === undefined ? `${value}` : `${old},${value}`);
  }

  /** Whether the request, or a later one of its client, has taken effect. */
  has(client: number, number: number): boolean {
    return (this.#answered.get(client) ?? 0) >= number;
  }

  read(key: string): string {
    return this.#values.get(key) ?? "";
  }

  /** The whole state; equal states give equal bytes. */
  snapshot(): Uint8Array {
    const lines = [...this.#values].map(([key, value]) => `v ${key} ${value}`).sort();
    const clients = [...this.#answered].sort(([a], [b]) => a - b).map(([id, number]) => `c ${id} ${number}`);
    const body = encoder.encode([...lines, ...clients].join("\n"));
    const bytes = new Uint8Array(4 + body.length);
    new DataView(bytes.buffer).setUint32(0, digestOf(body));
    bytes.set(body, 4);
    return bytes;
  }

  /** Undefined when the bytes are not what snapshot() gave. */
  static restore(bytes: Uint8Array): Machine | undefined {
    if (bytes.length < 4) return undefined;
    const body = bytes.subarray(4);
    if (new DataView(bytes.buffer, bytes.byteOffset).getUint32(0) !== digestOf(body)) return undefined;
    const machine = new Machine();
    for (const line of decoder.decode(body).split("\n")) {
      const [what, name = "", value = ""] = line.split(" ");
      if (what === "v") machine.#values.set(name, value);
      if (what === "c") machine.#answered.set(Number(name), Number(value));
    }
    return machine;
  }
}
