// Whole command lines, against a real gRPC server on loopback.

import { describe, expect, it } from "vitest";
import { ClusterError } from "../../lib/errors.js";
import type { NodeState as State } from "../../proto/gen/flotilla/control/v1/control.js";
import { NodeRole, NodeState } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { line } from "../../test/kit/cli/line.js";
import { clusterStatus, manager } from "../../test/kit/cli/managers.js";
import type { Answers } from "../../test/kit/cli/server.js";
import { node } from "../../test/kit/cli/states.js";

const role = NodeRole.MANAGER;
const voter = { id: 2, voter: true, reachable: true };

/** GetNode answers these, one after another, the last one for ever. */
function states(...list: State[]): NonNullable<Answers["getNode"]> {
  const [last] = list.slice(-1);
  return () => list.shift() ?? last ?? node("h2");
}

describe("node promote", () => {
  it("waits until the node's manager has a vote, and says what it waits for", async () => {
    const { exit, out, err, fake } = await line(["node", "promote", "h2"], {
      getNode: states(
        node("h2"),
        node("h2", { role, manager: { id: 2, lag: 40 } }),
        node("h2", { role, manager: { id: 2, lag: 0 } }),
        node("h2", { role, manager: voter }),
      ),
      updateNode: () => node("h2", { role }),
    });
    expect([exit, out]).toEqual([0, "h2\n"]);
    expect(err).toBe(
      "h2: waiting for its agent to start a manager\nh2: its manager is 40 entries behind\n" +
        "h2: its manager has caught up, and is about to get its vote\nh2: is a manager\n",
    );
    const asked = fake.asked.find(({ call }) => call === "updateNode")?.request;
    expect(asked).toMatchObject({ node: "h2", role: NodeRole.MANAGER, availability: 0, labelsAdd: {} });
  });

  it("changes nothing when one of the nodes is not there, and gives the managers' refusal", async () => {
    const missing = await line(["node", "promote", "h2", "h9"], {
      getNode: ({ node: name }) => {
        if (name === "h9") throw new ClusterError("not_found", "no node h9");
        return node(name);
      },
    });
    expect([missing.exit, missing.fake.asked.map(({ call }) => call)]).toEqual([1, ["getNode", "getNode"]]);
    const eighth = await line(["node", "promote", "h8"], {
      getNode: () => node("h8"),
      updateNode: () => {
        throw new ClusterError("failed_precondition", "there are 7 managers already: demote one first");
      },
    });
    expect([eighth.exit, eighth.err]).toEqual([1, "error: there are 7 managers already: demote one first\n"]);
  });

  it("ends for a timeout, for another role in between, for Ctrl-C, and at once with --detach", async () => {
    const waiting = node("h2", { role, state: NodeState.DOWN });
    const answers = (then: State): Answers => ({ getNode: states(node("h2"), then), updateNode: () => waiting });
    const late = await line(["node", "promote", "--timeout", "1ms", "h2"], answers(waiting));
    expect([late.exit, late.err]).toEqual([5, expect.stringContaining("h2: its agent is away")]);
    const other = await line(["node", "promote", "h2"], answers(node("h2", { role: NodeRole.WORKER })));
    expect([other.exit, other.err]).toEqual([4, expect.stringContaining("another role in between")]);
    const left = await line(["node", "promote", "h2"], answers(waiting), (io) => {
      io.onErr = () => setImmediate(() => io.stop());
    });
    expect([left.exit, left.err]).toEqual([130, expect.stringContaining("flotilla node demote h2")]);
    const detached = await line(["node", "promote", "-d", "--json", "h2"], answers(waiting));
    expect([detached.exit, detached.err]).toEqual([0, ""]);
    expect(JSON.parse(detached.out)).toMatchObject({ hostname: "h2", role: "manager", manager: null });
  });
});

describe("node demote", () => {
  it("waits until the node's manager is out", async () => {
    const { exit, err, fake } = await line(["node", "demote", "h2"], {
      getNode: states(
        node("h2", { role, manager: voter }),
        node("h2", { role, manager: voter }),
        node("h2", { role: NodeRole.WORKER }),
      ),
      getClusterStatus: () => clusterStatus(),
      updateNode: () => node("h2", { role: NodeRole.WORKER, manager: { ...voter, leader: true } }),
    });
    expect([exit, err]).toEqual([
      0,
      "h2: manager 2 is to be taken out; it leads, and hands over first\nh2: is no manager any more\n",
    ]);
    expect(fake.asked.find(({ call }) => call === "updateNode")?.request).toMatchObject({ role: NodeRole.WORKER });
  });

  it("refuses what would leave the others without a quorum, and the last manager", async () => {
    const demote = (status: ReturnType<typeof clusterStatus>) =>
      line(["node", "demote", "h2"], {
        getNode: () => node("h2", { role, manager: voter }),
        getClusterStatus: () => status,
      });
    const two = await demote(clusterStatus({ managers: [manager(1), manager(2), manager(3, { reachable: false })] }));
    expect([two.exit, two.err]).toEqual([1, expect.stringContaining("without h2 the managers have no quorum")]);
    const last = await demote(clusterStatus({ leaderId: 2, managers: [manager(2)] }));
    expect([last.exit, last.err]).toEqual([1, expect.stringContaining("h2 is the only manager with a vote")]);
    for (const { fake } of [two, last]) expect(fake.asked.some(({ call }) => call === "updateNode")).toBe(false);
  });
});
