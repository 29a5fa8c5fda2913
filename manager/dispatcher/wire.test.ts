import { expect, it } from "vitest";
import { type AssignmentChange, AssignmentsMessage } from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import { encodeAssignments } from "./wire.js";

const route = (id: string): AssignmentChange => ({
  item: { $case: "route", value: { id, serviceName: "web", vip: "10.127.0.1", ports: [], endpoints: [] } },
});
const shared: AssignmentChange[] = [
  route("service-1"),
  { item: { $case: "node", value: { id: "n1", hostname: "h1", address: "10.77.0.1" } } },
];
const own: AssignmentChange[] = [
  { item: { $case: "removedTaskId", value: "t1" } },
  { item: { $case: "removedRouteId", value: "s1" } },
  { item: { $case: "removedNodeId", value: "n2" } },
];

it("gives the bytes that the generated code gives, the first time and every other", () => {
  const messages: AssignmentsMessage[] = [
    { kind: 1, appliesTo: "", resultsIn: "1", changes: [...shared, ...own] },
    { kind: 2, appliesTo: "1", resultsIn: "2", changes: [...own, ...shared, route("service-2")] },
    { kind: 2, appliesTo: "2", resultsIn: "3", changes: [] },
  ];
  for (const message of [...messages, ...messages])
    expect(encodeAssignments(message).equals(AssignmentsMessage.encode(message).finish())).toBe(true);
});

it("gives a route that was made anew its own bytes", () => {
  const [before] = [route("service-3")];
  const after: AssignmentChange = {
    item: {
      $case: "route",
      value: { id: "service-3", serviceName: "web", vip: "10.127.0.9", ports: [], endpoints: [] },
    },
  };
  const [first, second] = [before, after].map((change) =>
    encodeAssignments({ kind: 2, appliesTo: "1", resultsIn: "2", changes: change === undefined ? [] : [change] }),
  );
  expect(first?.equals(second ?? Buffer.alloc(0))).toBe(false);
});
