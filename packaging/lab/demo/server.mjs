// The web server of the demo images, and a model of a graceful one. On SIGTERM it goes on accepting for a while, for whoever has
// not yet heard that it is leaving; answers with `Connection: close`, so that kept connections move elsewhere; and exits with 0 as
// soon as nobody is connected, or when its patience ends.
//
//   GET /            hostname and version, and its FLOTILLA_* environment; as JSON with `Accept: application/json`
//   GET /healthz     200; GET /sick: 503
//   GET /slow?ms=N   answers after N ms
//   GET /bytes?n=N   N bytes
//   POST /echo       the body, as it comes
import { createServer } from "node:http";
import { hostname } from "node:os";

const version = process.env.DEMO_VERSION ?? "0";
const port = Number(process.env.PORT ?? 80);
/** After SIGTERM: new connections are taken at least this long … */
const lingerMs = Number(process.env.DEMO_LINGER_MS ?? 300);
/** … idle ones may stay this long, to close themselves with their next answer, and busy ones as long again. */
const patienceMs = Number(process.env.DEMO_PATIENCE_MS ?? 3000);
const waitMsMax = 600_000;
const chunk = Buffer.alloc(64 * 1024, "x");

if (version === "broken") {
  console.log("demo: reading the configuration");
  console.log("demo: connecting to database at db.example:5432");
  console.error("demo: fatal: database refused the password for user 'demo'");
  process.exit(1);
}

const identity = {
  hostname: hostname(),
  version,
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => name.startsWith("FLOTILLA_"))),
};
let leaving = false;
let open = 0;

const server = createServer((request, response) => {
  if (leaving) response.setHeader("connection", "close");
  const url = new URL(request.url ?? "/", "http://demo");
  if (url.pathname === "/echo") {
    response.writeHead(200, { "content-type": request.headers["content-type"] ?? "application/octet-stream" });
    request.pipe(response);
    return;
  }
  request.resume();
  if (url.pathname === "/") sendIdentity(request, response);
  else if (url.pathname === "/healthz") send(response, 200, "ok\n");
  else if (url.pathname === "/sick") send(response, 503, "sick\n");
  else if (url.pathname === "/slow")
    setTimeout(() => sendIdentity(request, response), limit(url.searchParams.get("ms"), waitMsMax));
  else if (url.pathname === "/bytes")
    void sendBytes(response, limit(url.searchParams.get("n"), Number.MAX_SAFE_INTEGER));
  else send(response, 404, "not found\n");
});
// A kept connection must outlive the keep-alive of whoever stands before us, or requests are lost to the race.
server.keepAliveTimeout = 75_000;
server.requestTimeout = 0;
server.on("connection", (socket) => {
  open++;
  socket.on("close", () => open--);
});
server.listen(port, "0.0.0.0", () => console.log(`demo: version ${version} listens on port ${port}`));

for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    if (leaving) return;
    leaving = true;
    console.log(`demo: ${signal}, leaving`);
    setTimeout(() => setInterval(() => open === 0 && process.exit(0), 10), lingerMs);
    setTimeout(() => {
      server.close();
      server.closeIdleConnections();
    }, patienceMs);
    setTimeout(() => {
      console.log(`demo: ${open} connections cut`);
      process.exit(0);
    }, 2 * patienceMs);
  });
}

function sendIdentity(request, response) {
  if ((request.headers.accept ?? "").includes("json"))
    send(response, 200, `${JSON.stringify(identity)}\n`, "application/json");
  else
    send(
      response,
      200,
      `${Object.entries(identity)
        .map(([key, value]) => (key === "hostname" || key === "version" ? value : `${key}=${value}`))
        .join(" ")}\n`,
    );
}

function send(response, status, text, type = "text/plain") {
  // Decided at the moment of the answer, for a slow one may have begun before the signal.
  if (leaving && !response.headersSent) response.setHeader("connection", "close");
  response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(text) }).end(text);
}

async function sendBytes(response, size) {
  response.writeHead(200, { "content-type": "application/octet-stream", "content-length": size });
  for (let left = size; left > 0 && !response.destroyed; left -= chunk.length) {
    const more = response.write(left < chunk.length ? chunk.subarray(0, left) : chunk);
    if (!more) await new Promise((resume) => response.once("drain", resume).once("close", resume));
  }
  response.end();
}

function limit(text, max) {
  const value = Number(text ?? 0);
  return Number.isFinite(value) ? Math.min(Math.max(0, Math.trunc(value)), max) : 0;
}
