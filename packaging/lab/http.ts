// The few HTTP requests that the lab makes itself: is this engine, member or manager ready, and load this archive. Connections are
// not kept, so that a host that was killed leaves no dead socket in a pool.
import { createReadStream } from "node:fs";
import { type IncomingMessage, request } from "node:http";

export interface Answer {
  readonly status: number;
  readonly body: string;
}

export interface Call {
  /** Either a Unix socket with a path, or a whole address. */
  readonly socketPath?: string;
  readonly host?: string;
  readonly port?: number;
  readonly method?: "GET" | "POST";
  readonly path: string;
  readonly bodyFile?: string;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

const BODY_BYTES_MAX = 16 * 1024 * 1024;

export function call(options: Call): Promise<Answer> {
  return new Promise((done, fail) => {
    const { bodyFile, timeoutMs = 5_000, method = "GET", ...rest } = options;
    const req = request({
      ...rest,
      method,
      agent: false,
      ...(bodyFile === undefined ? {} : { headers: { "content-type": "application/x-tar" } }),
    });
    req.setTimeout(timeoutMs, () =>
      req.destroy(new Error(`no answer to ${method} ${options.path} within ${timeoutMs} ms`)),
    );
    req.on("error", fail);
    req.on("response", (response) => {
      collect(response).then((body) => done({ status: response.statusCode ?? 0, body }), fail);
    });
    if (bodyFile === undefined) req.end();
    else {
      const file = createReadStream(bodyFile, { highWaterMark: 1024 * 1024 });
      file.on("error", (cause) => req.destroy(cause));
      file.pipe(req);
    }
  });
}

async function collect(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > BODY_BYTES_MAX) throw new Error(`an answer larger than ${BODY_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}
