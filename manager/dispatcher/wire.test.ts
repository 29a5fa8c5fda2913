import { expect, it } from "vitest";
import { type AssignmentChange, AssignmentsMessage } from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import { makeNode } from "../../test/kit/objects.js";
import { SharedState } from "./shared.js";
import { encodeAssignments, withShared } from "./wire.js";

const route = (id: string, serviceName = "web") => ({ id, serviceName, vip: "10.127.0.1", ports: [], endpoints: [] });
const own: AssignmentChange[] = [
  { item: { $case: "removedTaskId", value: "t1" } },
  { item: { $case: "removedTaskId", value: "t2" } },
];

it("gives the bytes that the generated code gives, of the whole and of what changed", () => {
  const shared = new SharedState();
  shared.setRoute("s1", route("s1"));
  // Longer than one byte of length says, and than two.
  for (const length of [200, 20_000]) shared.setRoute(`s${length}`, route(`s${length}`, "x".repeat(length)));
  shared.setNode("n1", makeNode("n1"));
  const { revision } = shared;
  shared.setNode("n2", makeNode("n2"));
  shared.setRoute("s1", undefined);
  shared.setNode("n1", undefined);
  const messages = [
    withShared({ kind: 1, appliesTo: "", resultsIn: "1" }, own, shared.whole()),
    withShared({ kind: 2, appliesTo: "1", resultsIn: "2" }, own, shared.since(revision)),
    withShared({ kind: 2, appliesTo: "2", resultsIn: "3" }, [], shared.since(revision)),
    { kind: 2, appliesTo: "3", resultsIn: "4", changes: own } satisfies AssignmentsMessage,
  ];
  for (const message of [...messages, ...messages])
    expect(encodeAssignments(message).equals(AssignmentsMessage.encode(message).finish())).toBe(true);
});

it("gives a route that was made anew its own bytes", () => {
  const shared = new SharedState();
  const encoded = (name: string) => {
    shared.setRoute("s1", route("s1", name));
    return encodeAssignments(withShared({ kind: 1, appliesTo: "", resultsIn: "1" }, [], shared.whole()));
  };
  const [first, second] = [encoded("before"), encoded("after")];
  expect(AssignmentsMessage.decode(second).changes).toMatchObject([{ item: { value: { serviceName: "after" } } }]);
  expect(first.equals(second)).toBe(false);
});
