// Waiting with a deadline, and ports for what is started meanwhile.

import { once } from "node:events";
import { createServer } from "node:net";
import { setTimeout as delay } from "node:timers/promises";

const pollMs = 100;

/** Ports that were free a moment ago. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** What `look` finds, looking often. `why` it has found nothing so far is told at the end. */
export async function until<T>(
  what: string,
  withinMs: number,
  look: () => Promise<T | undefined>,
  why: () => unknown = () => undefined,
): Promise<T> {
  const endMs = performance.now() + withinMs;
  while (performance.now() < endMs) {
    const found = await look();
    if (found !== undefined) return found;
    await delay(pollMs);
  }
  throw new Error(`not within ${withinMs / 1000} s: ${what}`, { cause: why() });
}

/** As `until`, of what is still starting: that it does not answer yet is no failure, unless it stays so. */
export async function untilUp<T>(what: string, withinMs: number, look: () => Promise<T | undefined>): Promise<T> {
  let silence: unknown;
  const patiently = async () => {
    try {
      return await look();
    } catch (failure) {
      silence = failure;
      return undefined;
    }
  };
  return await until(what, withinMs, patiently, () => silence);
}
