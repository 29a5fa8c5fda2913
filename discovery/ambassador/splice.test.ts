// Two spliced sockets of which one fails at the worst moment; real sockets on loopback.

import { once } from "node:events";
import { type AddressInfo, type Socket, connect, createServer } from "node:net";
import { afterEach, expect, it } from "vitest";
import { splice } from "./splice.js";

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** Both ends of one connection. */
async function pair(): Promise<[ours: Socket, theirs: Socket]> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const theirs = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
  theirs.on("error", () => undefined);
  const [ours] = (await once(server, "connection")) as [Socket];
  server.close();
  ends.push(() => {
    ours.destroy();
    theirs.destroy();
  });
  return [ours, theirs];
}

it("a client that ends and fails at once leaves nothing open", async () => {
  const [[client, user], [upstream, endpoint]] = [await pair(), await pair()];
  endpoint.resume();
  const done = new Promise<void>((resolve) => splice(client, upstream, resolve));
  // What a write into a connection that its peer has left does, while the end is on its way to the endpoint.
  client.once("end", () => client.destroy(new Error("write EPIPE")));
  user.end();
  await done;
  expect([client.closed, upstream.closed]).toEqual([true, true]);
});
