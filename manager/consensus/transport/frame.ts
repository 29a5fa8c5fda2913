// RaftMessages as bytes, by hand: the generated code would copy every entry once more in each direction. What it reads
// and writes is the same protobuf message.

import type { Message } from "raft-ts";
import { decodeMessage, encodeMessage, WireError } from "raft-ts/node";
import { Greeting, RaftMessages } from "../../../proto/gen/flotilla/raft/v1/raft.js";

/** Field 1, length-delimited: the greeting. */
const greetingTag = 0x0a;
/** Field 2, length-delimited: a message. */
const messageTag = 0x12;

/** A message as it goes out, and its size. */
export interface Encoded {
  parts: readonly Uint8Array[];
  bytes: number;
}

export function encode(message: Message): Encoded {
  const parts = encodeMessage(message);
  let bytes = 0;
  for (const part of parts) bytes += part.length;
  return { parts, bytes };
}

export function greetingFrame(greeting: Greeting): Buffer {
  return Buffer.from(RaftMessages.encode({ greeting, messages: [] }).finish());
}

/** One RaftMessages with all of them, made in one copy. */
export function messagesFrame(messages: readonly Encoded[]): Buffer {
  let bytes = 0;
  for (const message of messages) bytes += 1 + varintLength(message.bytes) + message.bytes;
  const frame = Buffer.allocUnsafe(bytes);
  let at = 0;
  for (const message of messages) {
    frame[at++] = messageTag;
    at = putVarint(frame, at, message.bytes);
    for (const part of message.parts) {
      frame.set(part, at);
      at += part.length;
    }
  }
  return frame;
}

/** Throws WireError at anything that is not a RaftMessages of known messages. */
export function parseFrame(frame: Uint8Array): { greeting: Greeting | undefined; messages: Message[] } {
  let greeting: Greeting | undefined;
  const messages: Message[] = [];
  let at = 0;
  while (at < frame.length) {
    const tag = frame[at];
    const { value: length, at: begin } = takeVarint(frame, at + 1);
    at = begin + length;
    if (at > frame.length) throw new WireError("a RaftMessages was cut short");
    const bytes = frame.subarray(begin, at);
    if (tag === messageTag) messages.push(decodeMessage(bytes));
    else if (tag === greetingTag) greeting = Greeting.decode(bytes);
    else throw new WireError(`a RaftMessages has an unknown field (tag ${tag})`);
  }
  return { greeting, messages };
}

function varintLength(value: number): number {
  let length = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 128)) length += 1;
  return length;
}

function putVarint(bytes: Uint8Array, start: number, value: number): number {
  let at = start;
  let rest = value;
  while (rest >= 0x80) {
    bytes[at++] = (rest % 128) | 0x80;
    rest = Math.floor(rest / 128);
  }
  bytes[at++] = rest;
  return at;
}

function takeVarint(bytes: Uint8Array, start: number): { value: number; at: number } {
  let value = 0;
  let scale = 1;
  for (let at = start; at < bytes.length && at < start + 5; at += 1) {
    const byte = bytes[at] ?? 0;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return { value, at: at + 1 };
    scale *= 128;
  }
  throw new WireError("a RaftMessages has a length that cannot be read");
}
