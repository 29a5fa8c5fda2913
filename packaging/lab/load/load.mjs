// A steady load of GET requests, run as a process inside a lab host: half of the clients keep their connections, half
// open a new one for every request. Nothing is retried: whatever a client sees counts. Ends when its standard input does (so it
// never outlives who started it), and prints one JSON line: { ok, failed, errors: {text: count}, bodies: {text: count}, slowestMs }.
//
//   node load.mjs URL CLIENTS
import { Agent, get } from "node:http";

const [url, clientsText] = process.argv.slice(2);
const clients = Number(clientsText);
if (!URL.canParse(url ?? "") || !Number.isInteger(clients) || clients < 1 || clients > 1000) {
  console.error("usage: node load.mjs URL CLIENTS (1 to 1000); it ends with its standard input");
  process.exit(125);
}
const result = { ok: 0, failed: 0, errors: {}, bodies: {}, slowestMs: 0 };
/** More different texts than this are counted together. */
const textsMax = 200;
const count = (table, key) => {
  const kept = key in table || Object.keys(table).length < textsMax ? key : "(others)";
  table[kept] = (table[kept] ?? 0) + 1;
};
let ending = false;
process.stdin.on("end", () => {
  ending = true;
});
process.stdin.resume();

function request(agent) {
  return new Promise((resolve) => {
    const startMs = performance.now();
    let settled = false;
    const done = (error, body) => {
      if (settled) return;
      settled = true;
      result.slowestMs = Math.max(result.slowestMs, Math.round(performance.now() - startMs));
      if (error === undefined) {
        result.ok += 1;
        count(result.bodies, body.trim());
      } else {
        result.failed += 1;
        count(result.errors, error);
      }
      resolve();
    };
    const call = get(url, { agent, timeout: 10_000 }, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (text) => {
        body += text;
      });
      response.on("error", (error) => done(`response: ${error.message}`));
      response.on("end", () =>
        response.statusCode === 200 ? done(undefined, body) : done(`status ${response.statusCode}`),
      );
    });
    call.on("timeout", () => call.destroy(new Error("no answer for 10 s")));
    call.on("error", (error) => done(error.code ?? error.message));
  });
}

async function client(index) {
  const keepAlive = index % 2 === 0;
  const agent = new Agent({ keepAlive, maxSockets: 1 });
  // oxlint-disable-next-line no-unmodified-loop-condition -- the end of standard input sets it
  while (!ending) {
    await request(agent);
    // At most 100 requests a second for each client: enough to hit every moment, and room for the rest of the machine.
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  agent.destroy();
}

await Promise.all(Array.from({ length: clients }, (_, index) => client(index)));
console.log(JSON.stringify(result));
