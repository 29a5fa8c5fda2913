// IPv4 addresses and ranges as numbers: allocation, membership, and the text people and routing tools write. Pure.

/** A range of addresses. */
export interface Cidr {
  /** The first address, as an unsigned 32-bit number. */
  base: number;
  /** Prefix length, 0..32. */
  prefix: number;
}

/** The address as an unsigned 32-bit number; undefined unless it is exactly four decimal octets without leading zeros. */
export function parseIpv4(text: string): number | undefined {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  let address = 0;
  for (const part of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part)) return undefined;
    const octet = Number(part);
    if (octet > 255) return undefined;
    address = address * 256 + octet;
  }
  return address;
}

export function formatIpv4(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

function maskOf(prefix: number): number {
  return prefix === 0 ? 0 : (0xffffffff << (32 - prefix)) >>> 0;
}

/** Undefined when `text` is not a CIDR, or has bits set beyond its prefix. */
export function parseCidr(text: string): Cidr | undefined {
  const range = text.includes("/") ? parseRange(text) : undefined;
  return range !== undefined && range.base === parseIpv4(text.split("/")[0] ?? "") ? range : undefined;
}

/** As routing tools print it: a bare address is a /32, bits beyond the prefix are dropped. */
export function parseRange(text: string): Cidr | undefined {
  const [address, length, ...rest] = text.split("/");
  const base = parseIpv4(address ?? "");
  if (base === undefined || rest.length > 0) return undefined;
  if (length === undefined) return { base, prefix: 32 };
  if (!/^(0|[1-9]\d?)$/.test(length) || Number(length) > 32) return undefined;
  const prefix = Number(length);
  return { base: (base & maskOf(prefix)) >>> 0, prefix };
}

/** Addresses in it, the first and the last included. */
export function cidrSize({ prefix }: Pick<Cidr, "prefix">): number {
  return 2 ** (32 - prefix);
}

export function formatCidr(cidr: Cidr): string {
  return `${formatIpv4(cidr.base)}/${cidr.prefix}`;
}

export function cidrContains(cidr: Cidr, address: number): boolean {
  return (address & maskOf(cidr.prefix)) >>> 0 === cidr.base;
}

/** Whether two ranges share an address. */
export function cidrsOverlap(a: Cidr, b: Cidr): boolean {
  const wider = a.prefix <= b.prefix ? a : b;
  const narrower = wider === a ? b : a;
  return cidrContains(wider, narrower.base);
}

/** Whether every address of `inner` is in `outer`. */
export function cidrCovers(outer: Cidr, inner: Cidr): boolean {
  return outer.prefix <= inner.prefix && cidrContains(outer, inner.base);
}

/** The ranges that make up `outer` without `hole`: one per prefix length between them. */
export function cidrWithout(outer: Cidr, hole: Cidr): Cidr[] {
  if (!cidrCovers(outer, hole)) return cidrCovers(hole, outer) ? [] : [outer];
  const ranges: Cidr[] = [];
  for (let prefix = outer.prefix + 1; prefix <= hole.prefix; prefix += 1) {
    // The half that the hole is not in.
    const sibling = (hole.base ^ (1 << (32 - prefix))) >>> 0;
    ranges.push({ base: (sibling & maskOf(prefix)) >>> 0, prefix });
  }
  return ranges;
}
