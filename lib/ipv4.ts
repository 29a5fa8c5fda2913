// IPv4 addresses and subnets as numbers: allocation, membership, and the text people write.

/** A subnet: the network's first address, as an unsigned 32-bit number, and its prefix length. */
export interface Cidr {
  base: number;
  prefix: number;
}

/** Undefined when `text` is not exactly four decimal octets without leading zeros. */
export function parseIpv4(text: string): number | undefined {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  let address = 0;
  for (const part of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined;
    address = address * 256 + Number(part);
  }
  return address;
}

export function formatIpv4(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join(".");
}

/** Undefined when `text` is not a CIDR, or has bits set behind its prefix. */
export function parseCidr(text: string): Cidr | undefined {
  const [addressText = "", prefixText = "", ...more] = text.split("/");
  const base = parseIpv4(addressText);
  if (base === undefined || more.length > 0 || !/^(\d|[12]\d|3[0-2])$/.test(prefixText)) return undefined;
  const cidr = { base, prefix: Number(prefixText) };
  return base % cidrSize(cidr) === 0 ? cidr : undefined;
}

export function formatCidr({ base, prefix }: Cidr): string {
  return `${formatIpv4(base)}/${prefix}`;
}

/** Addresses in it, the first and the last included. */
export function cidrSize({ prefix }: Pick<Cidr, "prefix">): number {
  return 2 ** (32 - prefix);
}

export function cidrContains(cidr: Cidr, address: number): boolean {
  return address >= cidr.base && address < cidr.base + cidrSize(cidr);
}
