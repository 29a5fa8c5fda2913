// What a simulated agent reads of its assignments: its tasks. On a real host routes and the names of nodes are read
// too, by a processor of its own; here thousands of agents share two, and reading the same routes thousands of times
// would be most of what is measured.

import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import {
  AssignmentChange,
  type AssignmentsMessage,
  DispatcherService,
} from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";

/** AssignmentsMessage's fields, and AssignmentChange's oneof: proto/flotilla/dispatcher/v1/dispatcher.proto. */
const fields = { kind: 1, appliesTo: 2, resultsIn: 3, changes: 4 } as const;
const wanted: readonly number[] = [1, 3];

/** Tasks and removed tasks only. */
export function decodeTasks(bytes: Uint8Array): AssignmentsMessage {
  const reader = new BinaryReader(bytes);
  const message: AssignmentsMessage = { kind: 0, appliesTo: "", resultsIn: "", changes: [] };
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === fields.kind) message.kind = reader.int32() as AssignmentsMessage["kind"];
    else if (field === fields.appliesTo) message.appliesTo = reader.string();
    else if (field === fields.resultsIn) message.resultsIn = reader.string();
    else if (field === fields.changes && wireType === WireType.LengthDelimited) {
      const length = reader.uint32();
      const end = reader.pos + length;
      // The tag of its only field, which says what it is about.
      const [about] = new BinaryReader(bytes.subarray(reader.pos, end)).tag();
      if (wanted.includes(about)) message.changes.push(AssignmentChange.decode(bytes.subarray(reader.pos, end)));
      reader.pos = end;
    } else reader.skip(wireType);
  }
  return message;
}

/** From now on this process's agents read nothing else; before its first client is made. */
export function readTasksOnly(): void {
  Object.assign(DispatcherService.assignments, { responseDeserialize: decodeTasks });
}
