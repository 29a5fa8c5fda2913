// Every agent is told of every route and every node, and it is the same for all of them: its bytes are made once. With
// thousands of agents, making them again for each was most of what the leader did, above all when all agents come at once.

import { BinaryWriter } from "@bufbuild/protobuf/wire";
import {
  AssignmentChange,
  AssignmentsMessage,
  DispatcherService,
} from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";

/** AssignmentsMessage.changes: field 4, with a length. */
const changesTag = (4 << 3) | 2;

/** By the route or the node's address: both are made anew when they change, and never changed. */
const encoded = new WeakMap<object, Uint8Array>();

function bytesOf(shared: object, change: AssignmentChange): Uint8Array {
  let bytes = encoded.get(shared);
  if (bytes === undefined) {
    bytes = AssignmentChange.encode(change).finish();
    encoded.set(shared, bytes);
  }
  return bytes;
}

/** The same bytes as the generated code's. */
export function encodeAssignments(message: AssignmentsMessage): Buffer {
  const writer = AssignmentsMessage.encode({ ...message, changes: [] }, new BinaryWriter());
  for (const change of message.changes) {
    const { item } = change;
    writer.uint32(changesTag);
    if (item?.$case === "route" || item?.$case === "node") writer.bytes(bytesOf(item.value, change));
    else AssignmentChange.encode(change, writer.fork()).join();
  }
  return Buffer.from(writer.finish());
}

/** The service as the managers offer it. */
export const dispatcherService = {
  ...DispatcherService,
  assignments: { ...DispatcherService.assignments, responseSerialize: encodeAssignments },
} as const satisfies typeof DispatcherService;
