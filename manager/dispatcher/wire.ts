// What all agents are told alike comes as bytes that were made once (see shared.ts); only an agent's own part is
// encoded for it.

import { BinaryWriter } from "@bufbuild/protobuf/wire";
import {
  type AssignmentChange,
  AssignmentsMessage,
  DispatcherService,
} from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import type { SharedSection } from "./shared.js";

/** By the message whose changes end with the section's. */
const sections = new WeakMap<AssignmentsMessage, { own: readonly AssignmentChange[]; section: SharedSection }>();

/** The message with the agent's own changes and the section's. */
export function withShared(
  head: Omit<AssignmentsMessage, "changes">,
  own: readonly AssignmentChange[],
  section: SharedSection,
): AssignmentsMessage {
  const message = { ...head, changes: [...own, ...section.changes] };
  sections.set(message, { own, section });
  return message;
}

/** The same bytes as the generated code's. */
export function encodeAssignments(message: AssignmentsMessage): Buffer {
  const parts = sections.get(message);
  if (parts === undefined) return Buffer.from(AssignmentsMessage.encode(message).finish());
  const writer = new BinaryWriter();
  AssignmentsMessage.encode({ ...message, changes: [...parts.own] }, writer);
  return Buffer.concat([writer.finish(), parts.section.bytes]);
}

/** The service as the managers offer it. */
export const dispatcherService = {
  ...DispatcherService,
  assignments: { ...DispatcherService.assignments, responseSerialize: encodeAssignments },
} as const satisfies typeof DispatcherService;
