// Two connected sockets made one stream in each direction: half-close travels, a slow reader slows its writer, and an
// error on one side resets the other, so that cut data is never mistaken for its end.

import type { Socket } from "node:net";

/**
 * Both sockets must be open, paused and half-open capable. `done` is called once, when both are closed. Memory per
 * direction is bounded by the writable side's high-water mark plus one read.
 */
export function splice(client: Socket, upstream: Socket, done: () => void): void {
  let open = 2;
  const closed = () => {
    open -= 1;
    if (open === 0) done();
  };
  relay(client, upstream, closed);
  relay(upstream, client, closed);
}

/** Cuts a connection, so that its peer sees an error and not an end. */
export function reset(socket: Socket): void {
  // While its end is handed to the kernel a socket cannot be reset: Node would neither close it nor ever say "close".
  // All of its data is out by then, so that a plain close cuts nothing.
  if (socket.writableEnded && !socket.writableFinished && socket.writableLength === 0) socket.destroy();
  else socket.resetAndDestroy();
}

function relay(from: Socket, to: Socket, closed: () => void): void {
  // Pipe starts the flow, ends `to` when `from` ends, and stops `from` while `to` is full.
  from.pipe(to);
  from.on("error", () => reset(to));
  from.on("close", () => {
    // Destroyed by us, before its end was seen.
    if (!to.writableEnded) reset(to);
    closed();
  });
}
