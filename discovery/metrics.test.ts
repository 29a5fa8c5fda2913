// Serving the ambassador's figures: what must not take the process, and with it every connection, down.

import { Server } from "node:net";
import { expect, it, vi } from "vitest";
import { Lifetime, systemClock } from "../lib/mod.js";
import { Metrics, serveMetrics } from "./metrics.js";
import { RouteTable } from "./routes/mod.js";

it("connections that cannot be accepted end nothing", async () => {
  const life = new Lifetime();
  const listen = vi.spyOn(Server.prototype, "listen");
  try {
    await serveMetrics("127.0.0.1:0", new Metrics(new RouteTable(systemClock, () => undefined)), life);
    const server = listen.mock.contexts[0] as Server;
    for (let i = 0; i < 3; i += 1) server.emit("error", new Error("accept EMFILE"));
    expect(server.listening).toBe(true);
  } finally {
    listen.mockRestore();
    await life[Symbol.asyncDispose]();
  }
});
