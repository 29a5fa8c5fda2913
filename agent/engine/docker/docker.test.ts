// The parts of the Docker engine that need no engine.

import { mkdtempSync, rmSync } from "node:fs";
import { type Server, createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, asyncProperty, array, integer } from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { silentLogger, systemClock, systemRng } from "../../../lib/mod.js";
import type { EngineLogLine } from "../engine.js";
import { DockerApi, compareVersions } from "./api.js";
import { classify, classifyPull } from "./errors.js";
import { frames, logLines, rawEntries } from "./loglines.js";
import { DockerEngine } from "./mod.js";
import { jsonLines } from "./ndjson.js";
import { reference } from "./pull.js";

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

/** The bytes in pieces of the given sizes, the rest in one. */
async function* pieces(bytes: Buffer, sizes: readonly number[]): AsyncGenerator<Buffer, void, undefined> {
  let at = 0;
  for (const size of sizes) {
    yield await Promise.resolve(bytes.subarray(at, at + size));
    at += size;
  }
  yield bytes.subarray(at);
}

function frame(type: number, text: string): Buffer {
  const header = Buffer.alloc(8);
  header[0] = type;
  header.writeUInt32BE(Buffer.byteLength(text), 4);
  return Buffer.concat([header, Buffer.from(text)]);
}

const words = (lines: EngineLogLine[]) =>
  lines.map((line) => [line.stream, line.atMs, Buffer.from(line.text).toString()]);

describe("log lines", () => {
  const bytes = Buffer.concat([
    frame(1, "2026-01-02T03:04:05.678901234Z one\n"),
    frame(3, "system chatter"),
    frame(2, "2026-01-02T03:04:06.000000000Z two\n"),
    frame(1, "2026-01-02T03:04:07.000000000Z par"),
    frame(2, "2026-01-02T03:04:07.500000000Z between\n"),
    frame(1, "2026-01-02T03:04:08.000000000Z tial\n"),
    frame(1, "2026-01-02T03:04:09.000000000Z \n"),
    frame(1, "2026-01-02T03:04:10.000000000Z unended"),
  ]);
  const expected = [
    ["stdout", 1767323045678, "one"],
    ["stderr", 1767323046000, "two"],
    ["stderr", 1767323047500, "between"],
    ["stdout", 1767323047000, "partial"],
    ["stdout", 1767323049000, ""],
    ["stdout", 1767323050000, "unended"],
  ];

  test("however the stream is cut into chunks, the lines are the same", async () => {
    await assert(
      asyncProperty(array(integer({ min: 0, max: 40 }), { maxLength: 30 }), async (sizes) => {
        expect(words(await all(logLines(frames(pieces(bytes, sizes)))))).toEqual(expected);
      }),
      { numRuns: 200 },
    );
  });

  test("a line is cut at 16 KiB, whatever the entries it comes in", async () => {
    const long = Buffer.concat([
      ...Array.from({ length: 5 }, () => frame(1, `2026-01-02T03:04:05Z ${"x".repeat(10_000)}`)),
      frame(1, "2026-01-02T03:04:05Z end\n"),
      frame(1, "2026-01-02T03:04:06Z next\n"),
    ]);
    const lines = await all(logLines(frames(pieces(long, []))));
    expect(lines.map((line) => line.text.length)).toEqual([16_384, 4]);
  });

  test("200,000 tiny frames in one chunk do not exhaust the stack", async () => {
    const tiny = Buffer.concat(Array.from({ length: 200_000 }, () => frame(1, "2026-01-02T03:04:05Z x\n")));
    expect(await all(logLines(frames(pieces(tiny, []))))).toHaveLength(200_000);
  });

  test("a stream that lost its frame ends with an error instead of filling the memory", async () => {
    await expect(all(frames(pieces(Buffer.from("not framed at all, but text"), [])))).rejects.toThrow(/frame of/);
  });

  test("a terminal's lines are read raw", async () => {
    const raw = Buffer.from("2026-01-02T03:04:05.000Z one\r\n2026-01-02T03:04:06.000Z two\r\nno time");
    expect(words(await all(logLines(rawEntries(pieces(raw, [3, 20, 5])))))).toEqual([
      ["stdout", 1767323045000, "one"],
      ["stdout", 1767323046000, "two"],
      ["stdout", 0, "no time"],
    ]);
  });
});

describe("lines of JSON", () => {
  test("garbage between good lines is skipped and told", async () => {
    const garbage: string[] = [];
    const bytes = Buffer.from('{"a":1}\n{broken\n\n{"b":"ü"}\n');
    const lines = await all(jsonLines(pieces(bytes, [5, 5, 14]), (line) => garbage.push(line)));
    expect(lines).toEqual([{ a: 1 }, { b: "ü" }]);
    expect(garbage).toEqual(["{broken"]);
  });

  test("a line without an end is dropped at its limit, and the next one is good", async () => {
    const garbage: string[] = [];
    const bytes = Buffer.concat([Buffer.alloc(3 << 20, "x"), Buffer.from('\n{"a":1}\n')]);
    const lines = await all(jsonLines(pieces(bytes, [1 << 20, 1 << 20]), (line) => garbage.push(line)));
    expect(lines).toEqual([{ a: 1 }]);
    expect(garbage).toHaveLength(1);
  });
});

test.each([
  ["nginx", { fromImage: "nginx", tag: "latest" }],
  ["nginx:1.27", { fromImage: "nginx", tag: "1.27" }],
  ["host:5000/a/b", { fromImage: "host:5000/a/b", tag: "latest" }],
  ["host:5000/a/b:2", { fromImage: "host:5000/a/b", tag: "2" }],
  ["a/b@sha256:12", { fromImage: "a/b", tag: "sha256:12" }],
  ["a/b:1@sha256:12", { fromImage: "a/b", tag: "sha256:12" }],
])("the reference %s goes to the engine in two parts", (image, parts) => {
  expect(reference(image)).toEqual(parts);
});

test.each([
  ["pull access denied for x, repository does not exist or may require 'docker login': denied", "permission_denied"],
  ["unauthorized: authentication required", "permission_denied"],
  ["manifest for x:9 not found: manifest unknown: manifest unknown", "not_found"],
  ["no matching manifest for linux/arm64 in the manifest list entries", "not_found"],
  ["Get https://r/v2/: dial tcp: lookup r: no such host", "unavailable"],
  ["Get https://r/v2/: dial tcp 1.2.3.4:443: connect: connection refused", "unavailable"],
  ["dial udp 10.127.0.53:53: connect: permission denied", "unavailable"],
  ["toomanyrequests: You have reached your pull rate limit", "unavailable"],
  ["failed to register layer: write /x: no space left on device", "resource_exhausted"],
  ["invalid reference format", "invalid_argument"],
])("a pull that says %j is %s", (words, code) => {
  expect(classifyPull(words, "x")).toMatchObject({ code, message: `pull x: ${words}` });
});

test("a port that is taken is told as such", () => {
  const failure = Object.assign(new Error("(HTTP code 500)"), {
    statusCode: 500,
    json: { message: "driver failed: Bind for 0.0.0.0:80 failed: port is already allocated" },
  });
  expect(classify(failure, "start container 1")).toMatchObject({
    code: "failed_precondition",
    message: expect.stringContaining("port is already allocated") as string,
  });
});

test("versions are compared by number", () => {
  expect(compareVersions("1.9", "1.41")).toBeLessThan(0);
  expect(compareVersions("1.41", "1.41")).toBe(0);
  expect(compareVersions("2.0", "1.47")).toBeGreaterThan(0);
});

describe("a socket that misbehaves", () => {
  const servers: Server[] = [];
  const dir = mkdtempSync(join(tmpdir(), "flotilla-engine-"));
  let count = 0;
  afterEach(() => {
    for (const server of servers.splice(0)) {
      server.close();
      server.closeAllConnections();
    }
    rmSync(dir, { recursive: true, force: true });
  });

  async function serve(handler: Parameters<typeof createServer>[1]): Promise<string> {
    const path = join(mkdtempSync(join(tmpdir(), "flotilla-sock-")), `s${(count += 1)}.sock`);
    const server = createServer(handler as never);
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(path, resolve));
    return path;
  }
  const versionOr = (url: string | undefined) =>
    url === "/version" ? JSON.stringify({ ApiVersion: "1.41" }) : undefined;
  const engineAt = (path: string) =>
    new DockerEngine({ host: `unix://${path}`, clock: systemClock, rng: systemRng, log: silentLogger });

  test("no answer: the call ends at its deadline", async () => {
    const path = await serve((request, response) => {
      const version = versionOr(request.url);
      if (version !== undefined) response.end(version);
    });
    await using api = new DockerApi(path, systemClock);
    const call = { method: "GET", path: "/x", kind: "quick", deadlineMs: 50, what: "ask" } as const;
    await expect(api.ask(call)).rejects.toMatchObject({ code: "deadline_exceeded" });
  });

  test("cut after the headers: the call ends when another shows that the engine is away", async () => {
    const path = await serve((request, response) => {
      const version = versionOr(request.url);
      if (version !== undefined) response.end(version);
      else if (request.url?.includes("/hang")) {
        response.writeHead(200, { "content-length": "100" });
        response.write("{");
      } else request.socket.destroy();
    });
    await using api = new DockerApi(path, systemClock);
    const call = { method: "GET", kind: "quick", deadlineMs: 600_000, what: "ask" } as const;
    const hanging = api.ask({ ...call, path: "/hang" });
    hanging.catch(() => undefined);
    await expect(api.ask({ ...call, path: "/cut" })).rejects.toMatchObject({ code: "unavailable" });
    await expect(hanging).rejects.toMatchObject({ code: "unavailable" });
  });

  test("an engine that is too old is refused with both versions", async () => {
    const path = await serve((_request, response) => response.end(JSON.stringify({ ApiVersion: "1.24" })));
    await using engine = engineAt(path);
    await expect(engine.list({})).rejects.toMatchObject({
      code: "failed_precondition",
      message: expect.stringMatching(/1\.24.*1\.40/) as string,
    });
  });

  test("the body of create is not in its URL, and a newer engine is spoken to in our version", async () => {
    const urls: string[] = [];
    let body = "";
    const path = await serve((request, response) => {
      urls.push(request.url ?? "");
      if (request.url === "/version") {
        response.end(JSON.stringify({ ApiVersion: "1.99" }));
        return;
      }
      request.on("data", (chunk: Buffer) => (body += chunk.toString()));
      request.on("end", () => response.writeHead(201).end(JSON.stringify({ Id: "abc" })));
    });
    await using api = new DockerApi(path, systemClock);
    const answer = await api.ask({
      method: "POST",
      path: "/containers/create",
      query: { name: "n" },
      body: { Env: ["SECRET=1"] },
      kind: "long",
      deadlineMs: 5_000,
      what: "create",
    });
    expect(answer).toEqual({ Id: "abc" });
    expect(urls).toEqual(["/version", "/v1.47/containers/create?name=n"]);
    expect(JSON.parse(body)).toEqual({ Env: ["SECRET=1"] });
  });

  test("a pull that answers 200 and fails in the stream has failed, for all who wait for it", async () => {
    let pulls = 0;
    const path = await serve((request, response) => {
      const version = versionOr(request.url);
      if (version !== undefined) response.end(version);
      else if (request.url?.includes("/images/create")) {
        pulls += 1;
        setTimeout(() => {
          response.writeHead(200);
          response.write('{"status":"Pulling from x"}\n');
          response.end('{"errorDetail":{"message":"manifest unknown"},"error":"manifest unknown"}\n');
        }, 50);
      } else response.writeHead(404).end(JSON.stringify({ message: "No such image" }));
    });
    await using engine = engineAt(path);
    const { signal } = new AbortController();
    const words: string[] = [];
    const both = [
      engine.ensureImage("x", "missing", signal, (word) => words.push(word)),
      engine.ensureImage("x", "missing", signal),
    ];
    for (const pull of both) await expect(pull).rejects.toMatchObject({ code: "not_found" });
    expect(pulls).toBe(1);
    expect(words).toEqual(["Pulling from x"]);
  });

  test("a stop that finds it gone or stopped is a success; one with a lost exit is sent again", async () => {
    const answers = [404, 304, 500, 204];
    const path = await serve((request, response) => {
      const version = versionOr(request.url);
      if (version !== undefined) {
        response.end(version);
        return;
      }
      const status = answers.shift() ?? 500;
      const message = status === 500 ? "container did not receive an exit event" : "no such container";
      response.writeHead(status).end(status < 400 ? undefined : JSON.stringify({ message }));
    });
    await using engine = engineAt(path);
    await engine.stop("c", 1_000);
    await engine.stop("c", 1_000);
    await engine.stop("c", 1_000);
    expect(answers).toEqual([]);
  });

  test("a removal that is in progress is waited for", async () => {
    let looks = 0;
    const path = await serve((request, response) => {
      const version = versionOr(request.url);
      if (version !== undefined) {
        response.end(version);
        return;
      }
      const reply = (status: number, json: object) => response.writeHead(status).end(JSON.stringify(json));
      if (request.method === "DELETE") reply(409, { message: "removal of container c is already in progress" });
      else if ((looks += 1) < 3) reply(200, { State: { Status: "removing" } });
      else reply(404, { message: "No such container: c" });
    });
    await using engine = engineAt(path);
    await engine.remove("c");
    expect(looks).toBe(3);
  });

  test("an event stream with garbage goes on; one that ends is opened again, and says so", async () => {
    let opened = 0;
    const path = await serve((request, response) => {
      const version = versionOr(request.url);
      if (version !== undefined) response.end(version);
      else if (request.url?.includes("/events")) {
        opened += 1;
        response.writeHead(200);
        response.write(`garbage\n${JSON.stringify({ Actor: { ID: `c${opened}` } })}\n`);
        if (opened === 1) setTimeout(() => response.destroy(), 20);
      } else response.end("OK");
    });
    await using engine = engineAt(path);
    const controller = new AbortController();
    const seen: (string | undefined)[] = [];
    for await (const event of engine.events({}, controller.signal)) {
      seen.push(event.id);
      if (seen.length === 4) controller.abort();
    }
    expect(seen).toEqual([undefined, "c1", undefined, "c2"]);
  });
});
