// A TCP proxy that tests put between a client and a server to break what is between them.

import { once } from "node:events";
import { type Server, type Socket, connect, createServer } from "node:net";
import { setTimeout as delay } from "node:timers/promises";

export interface TcpProxy extends AsyncDisposable {
  /** Where it listens: "127.0.0.1:port". */
  readonly address: string;
  /** New connections go there. */
  target(address: string): void;
  /** Ends every connection and, until `heal`, each new one. */
  cut(): void;
  /** Keeps what clients send, even when they have gone, until `release`. */
  holdRequests(): void;
  /** Lets what was kept arrive, each piece as late after the one before as if it had been on a slow way. */
  release(): Promise<void>;
  /** Swallows what servers answer, for good: only a new connection gets answers again, after `heal`. */
  dropAnswers(): void;
  heal(): void;
}

/** Forwards to `target`, a "host:port". */
export async function startTcpProxy(target: string): Promise<TcpProxy> {
  let to = target;
  let state: "open" | "cut" | "hold" | "drop" = "open";
  const sockets = new Set<Socket>();
  const held: (() => void)[] = [];

  const end = () => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
  };
  const server: Server = createServer((client) => {
    if (state === "cut") {
      client.destroy();
      return;
    }
    const [host, port] = to.split(":");
    const upstream = connect(Number(port), host);
    let deaf = false;
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket);
      // A broken connection is what this is for; its other half goes with it.
      socket.on("error", () => undefined);
      socket.on("close", () => {
        sockets.delete(socket);
        // What is held must still arrive after the client has gone.
        if (state !== "hold") other.destroy();
      });
    }
    client.on("data", (chunk) => {
      if (state === "hold") held.push(() => upstream.write(chunk));
      else upstream.write(chunk);
    });
    upstream.on("data", (chunk) => {
      deaf ||= state === "drop";
      if (!deaf) client.write(chunk);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("a TCP server has no port");

  return {
    address: `127.0.0.1:${address.port}`,
    target(next) {
      to = next;
    },
    cut() {
      state = "cut";
      end();
    },
    holdRequests() {
      state = "hold";
    },
    async release() {
      for (const send of held.splice(0)) {
        send();
        await delay(30);
      }
    },
    dropAnswers() {
      state = "drop";
    },
    heal() {
      state = "open";
    },
    async [Symbol.asyncDispose]() {
      state = "cut";
      end();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
