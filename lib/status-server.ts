// Every process's HTTP side: /metrics for Prometheus, /healthz (the process lives) and /readyz (it can serve, or says
// why it can't).

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { ClusterError, messageOf } from "./errors.js";
import { Lifetime } from "./lifetime.js";
import type { Logger } from "./log.js";

export interface StatusServerOptions {
  host: string;
  /** 0 picks a free one. */
  port: number;
  /** prom-client's Registry, as far as it is needed. */
  registry: { readonly contentType: string; metrics(): Promise<string> };
  ready(): { ready: boolean; message: string };
  log: Logger;
}

/** Listens until disposed. Rejects with `unavailable` when the address can't be had. */
export async function serveStatus(options: StatusServerOptions): Promise<Lifetime> {
  const lifetime = new Lifetime();
  const server = createServer(
    { requestTimeout: 10_000, headersTimeout: 5_000, maxHeaderSize: 16 * 1024 },
    (request, response) => {
      void answer(options, request, response);
    },
  );
  server.maxConnections = 1_000;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) =>
      reject(
        new ClusterError("unavailable", `--http-listen ${options.host}:${options.port}: ${messageOf(cause)}`, {
          cause,
        }),
      ),
    );
    server.listen(options.port, options.host, resolve);
  });
  lifetime.defer(
    () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  );
  return lifetime;
}

async function answer(options: StatusServerOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const send = (status: number, type: string, body: string) => {
    response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(body) });
    response.end(request.method === "HEAD" ? undefined : body);
  };
  const path = (request.url ?? "/").split("?", 1)[0];
  try {
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.setHeader("allow", "GET, HEAD");
      send(405, "text/plain; charset=utf-8", "only GET and HEAD\n");
    } else if (path === "/healthz") send(200, "text/plain; charset=utf-8", "ok\n");
    else if (path === "/readyz") {
      const { ready, message } = options.ready();
      send(ready ? 200 : 503, "text/plain; charset=utf-8", `${message}\n`);
    } else if (path === "/metrics") send(200, options.registry.contentType, await options.registry.metrics());
    else send(404, "text/plain; charset=utf-8", "here are /metrics, /healthz and /readyz\n");
  } catch (failure) {
    options.log.error({ err: failure, path }, "http request failed");
    if (!response.headersSent) send(500, "text/plain; charset=utf-8", "internal error, see the process's log\n");
    else response.destroy();
  }
}
