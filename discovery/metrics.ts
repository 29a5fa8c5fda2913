// The ambassador's figures for Prometheus. The hot paths count in plain numbers; prom-client reads them when asked.

import { createServer } from "node:http";
import { rm } from "node:fs/promises";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { ClusterError, type Lifetime, messageOf } from "../lib/mod.js";
import type { CarrierObserver } from "./ambassador/mod.js";
import type { Candidate, RouteTable } from "./routes/mod.js";

interface Counts {
  readonly service: string;
  readonly revision: string;
  opened: number;
  closed: number;
  connectFailed: number;
}

/** Services and revisions remembered after they went; beyond it those without connections are forgotten. */
const countsMax = 10_000;
const secondsBuckets = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5];

export class Metrics {
  readonly registry = new Registry();
  readonly #counts = new Map<string, Counts>();
  readonly #refused = new Map<string, number>();
  readonly #rcodes = new Map<number, number>();
  readonly #connectSeconds: Histogram;
  readonly #forwardSeconds: Histogram;
  readonly carrier: CarrierObserver;

  constructor(table: RouteTable) {
    const { registry } = this;
    const registers = [registry];
    const labelNames = ["service", "revision"] as const;
    const counts = this.#counts;
    const refused = this.#refused;
    const rcodes = this.#rcodes;
    const counter = (name: string, help: string, value: (of: Counts) => number) => {
      const metric = new Counter({
        name,
        help,
        labelNames,
        registers: [],
        collect() {
          this.reset();
          for (const of of counts.values()) this.inc({ service: of.service, revision: of.revision }, value(of));
        },
      });
      registry.registerMetric(metric);
    };
    counter("flotilla_ambassador_connections_total", "Connections carried to an endpoint.", (of) => of.opened);
    counter(
      "flotilla_ambassador_connect_failures_total",
      "Attempts to connect to an endpoint that failed.",
      (of) => of.connectFailed,
    );
    const open = new Gauge({
      name: "flotilla_ambassador_connections_open",
      help: "Connections open now.",
      labelNames,
      registers: [],
      collect() {
        this.reset();
        for (const of of counts.values())
          this.set({ service: of.service, revision: of.revision }, of.opened - of.closed);
      },
    });
    registry.registerMetric(open);
    const refusals = new Counter({
      name: "flotilla_ambassador_connections_refused_total",
      help: "Connections reset without reaching an endpoint.",
      labelNames: ["service", "reason"],
      registers: [],
      collect() {
        this.reset();
        for (const [key, value] of refused) {
          const [service = "", reason = ""] = key.split("\n");
          this.inc({ service, reason }, value);
        }
      },
    });
    registry.registerMetric(refusals);
    const endpoints = new Gauge({
      name: "flotilla_ambassador_endpoints",
      help: "Endpoints known, by whether they are draining.",
      labelNames: ["draining"],
      registers: [],
      collect() {
        const all = table.endpoints();
        const draining = all.filter((endpoint) => endpoint.draining).length;
        this.set({ draining: "true" }, draining);
        this.set({ draining: "false" }, all.length - draining);
      },
    });
    registry.registerMetric(endpoints);
    const queries = new Counter({
      name: "flotilla_ambassador_dns_queries_total",
      help: "DNS queries by the answer's code; dropped: no answer.",
      labelNames: ["rcode"],
      registers: [],
      collect() {
        this.reset();
        for (const [rcode, value] of rcodes) this.inc({ rcode: rcodeNames.get(rcode) ?? String(rcode) }, value);
      },
    });
    registry.registerMetric(queries);
    this.#connectSeconds = new Histogram({
      name: "flotilla_ambassador_connect_seconds",
      help: "From accepting a connection's last attempt to the endpoint's answer.",
      buckets: secondsBuckets,
      registers,
    });
    this.#forwardSeconds = new Histogram({
      name: "flotilla_ambassador_dns_forward_seconds",
      help: "How long the host's name servers took.",
      buckets: secondsBuckets,
      registers,
    });
    this.carrier = {
      opened: (candidate, connectMs) => {
        this.#of(candidate).opened += 1;
        this.#connectSeconds.observe(connectMs / 1_000);
      },
      closed: (candidate) => {
        this.#of(candidate).closed += 1;
      },
      connectFailed: (candidate) => {
        this.#of(candidate).connectFailed += 1;
      },
      refused: (service, reason) => {
        const key = `${service}\n${reason}`;
        this.#refused.set(key, (this.#refused.get(key) ?? 0) + 1);
      },
    };
  }

  countQuery(rcode: number): void {
    this.#rcodes.set(rcode, (this.#rcodes.get(rcode) ?? 0) + 1);
  }

  observeForward(ms: number): void {
    this.#forwardSeconds.observe(ms / 1_000);
  }

  #of(candidate: Candidate): Counts {
    const { serviceName, revision } = candidate.endpoint;
    const key = `${serviceName}@${revision}`;
    const known = this.#counts.get(key);
    if (known !== undefined) return known;
    if (this.#counts.size >= countsMax)
      for (const [other, of] of this.#counts) if (of.opened === of.closed) this.#counts.delete(other);
    const made = { service: serviceName, revision: String(revision), opened: 0, closed: 0, connectFailed: 0 };
    this.#counts.set(key, made);
    return made;
  }
}

const rcodeNames: ReadonlyMap<number, string> = new Map([
  [-1, "dropped"],
  [0, "noerror"],
  [1, "formerr"],
  [2, "servfail"],
  [3, "nxdomain"],
  [4, "notimp"],
  [5, "refused"],
  [16, "badvers"],
]);

/** Serves /metrics and /healthz on `host:port`, or on a Unix socket given as `unix:/path`. */
export async function serveMetrics(listen: string, metrics: Metrics, life: Lifetime): Promise<void> {
  const server = createServer((request, response) => {
    if (request.url === "/healthz") {
      response.end("ok\n");
      return;
    }
    if (request.url !== "/metrics") {
      response.writeHead(404).end("there are /metrics and /healthz\n");
      return;
    }
    metrics.registry.metrics().then(
      (text) => response.setHeader("content-type", metrics.registry.contentType).end(text),
      (failure: unknown) => response.writeHead(500).end(`${messageOf(failure)}\n`),
    );
  });
  const unix = listen.startsWith("unix:") ? listen.slice("unix:".length) : undefined;
  const match = /^(.*):(\d{1,5})$/.exec(listen);
  if (unix === undefined && match === null)
    throw ClusterError.invalid([
      {
        field: "http-listen",
        value: listen,
        rule: "must be ADDRESS:PORT or unix:/path",
        fix: "write for example 127.0.0.1:7403",
      },
    ]);
  if (unix !== undefined) await rm(unix, { force: true });
  await new Promise<void>((resolve, reject) => {
    // For good: once it listens, an accept that fails for want of descriptors must not end the process.
    server.on("error", (error) =>
      reject(new ClusterError("failed_precondition", `cannot listen on ${listen}: ${error.message}`, { cause: error })),
    );
    if (unix === undefined) server.listen({ host: match?.[1] ?? "", port: Number(match?.[2]) }, resolve);
    else server.listen({ path: unix }, resolve);
  });
  life.defer(async () => {
    server.closeAllConnections();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  });
}
