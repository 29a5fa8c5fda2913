// Snapshots go on a call and a connection of their own, at the receiver's pace: they are long, and nothing waits for
// them. A transfer that stands still is given up.

import {
  Client,
  type ClientWritableStream,
  credentials,
  type ServerReadableStream,
  type ServiceError,
} from "@grpc/grpc-js";
import type { Message, MessageOf } from "raft-ts";
import { decodeMessage } from "raft-ts/node";
import { type Clock, ClusterError, withDeadline } from "../../../lib/mod.js";
import { fromServiceError } from "../../../proto/errors.js";
import { RaftService, type SnapshotPart, type SnapshotTaken } from "../../../proto/gen/flotilla/raft/v1/raft.js";
import { encode } from "./frame.js";
import { checkGreeting, greetingTo, type Host } from "./greeting.js";
import { channelOptions } from "./peer.js";

/** Without a chunk moving. */
export const progressMsMax = 10_000;
/** From the last chunk until the receiver has it all on disk and in its state. */
const takenMsMax = 120_000;

/** Resolves when the receiver has all of it. */
export async function sendSnapshot(
  host: Host,
  address: string,
  message: MessageOf<"MsgSnap">,
  chunks: AsyncIterable<Uint8Array>,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  const client = new Client(address, credentials.createInsecure(), channelOptions);
  const { path, requestSerialize, responseDeserialize } = RaftService.snapshot;
  let stream: ClientWritableStream<SnapshotPart> | undefined;
  const cancel = () => stream?.cancel();
  signal.addEventListener("abort", cancel, { once: true });
  try {
    const taken = new Promise<void>((resolve, reject) => {
      stream = client.makeClientStreamRequest<SnapshotPart, SnapshotTaken>(
        path,
        requestSerialize,
        responseDeserialize,
        (error: ServiceError | null) => {
          if (error === null) resolve();
          else reject(signal.aborted ? (signal.reason as Error) : fromServiceError(error));
        },
      );
    });
    // A refusal in the middle ends the writing below; its reason is this one.
    let refused = false;
    taken.catch(() => {
      refused = true;
    });
    const write = (part: SnapshotPart) =>
      Promise.race([
        taken,
        withDeadline(clock, progressMsMax, `the snapshot to ${address}`, () => written(stream, part)),
      ]);
    await write({ greeting: greetingTo(host, message.to), message: join(encode(message).parts), chunk: none });
    for await (const chunk of chunks) {
      if (refused) break;
      await write({ greeting: undefined, message: none, chunk: asBuffer(chunk) });
    }
    stream?.end();
    await withDeadline(clock, takenMsMax, `the snapshot to ${address}`, () => taken, signal);
  } finally {
    signal.removeEventListener("abort", cancel);
    cancel();
    client.close();
  }
}

const none = Buffer.alloc(0);

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function join(parts: readonly Uint8Array[]): Buffer {
  return Buffer.concat(parts);
}

function written(stream: ClientWritableStream<SnapshotPart> | undefined, part: SnapshotPart): Promise<void> {
  return new Promise((resolve) => {
    stream?.write(part, () => resolve());
  });
}

export interface SnapshotReceiver {
  receiveSnapshot(message: MessageOf<"MsgSnap">, chunks: AsyncIterable<Uint8Array>): Promise<void>;
}

/** The receiving end of one call. Throws what the sender is told. */
export async function takeSnapshot(
  host: Host,
  call: ServerReadableStream<SnapshotPart, SnapshotTaken>,
  node: SnapshotReceiver,
  clock: Clock,
): Promise<void> {
  const parts = (call as AsyncIterable<SnapshotPart>)[Symbol.asyncIterator]();
  const next = () => withDeadline(clock, progressMsMax, "the next part of the snapshot", () => parts.next());
  const first = await next();
  if (first.done === true) throw new ClusterError("invalid_argument", "a snapshot without a part");
  checkGreeting(host, first.value.greeting);
  const message: Message = decodeMessage(first.value.message);
  if (message.type !== "MsgSnap" || message.to !== host.id)
    throw new ClusterError("invalid_argument", `a snapshot that begins with a ${message.type} to ${message.to}`);
  await node.receiveSnapshot(message, chunksOf(next));
}

async function* chunksOf(next: () => Promise<IteratorResult<SnapshotPart>>): AsyncGenerator<Uint8Array> {
  for (let part = await next(); part.done !== true; part = await next()) yield part.value.chunk;
}
