// The harness itself: what is written wrongly is said with its line, and nothing false passes.

import { describe, expect, test } from "vitest";
import { ScenarioEnv } from "./env.js";
import { parseScenario, renderScenario } from "./format.js";

function run(text: string): string {
  const file = parseScenario(text);
  return renderScenario(file, new ScenarioEnv().run(file));
}

const three = "add-nodes 3 voters=(1,2,3)\nelect 1\n";

describe("the format", () => {
  test("comments and commands stay, outputs are put in", () => {
    expect(run("# Why.\n\nadd-nodes 1 voters=(1)\n----\nold\n\n# More.\nraft-log 1\n----\n")).toBe(
      "# Why.\n\nadd-nodes 1 voters=(1)\n----\nok\n\n# More.\nraft-log 1\n----\n1: empty, first would be 11\n",
    );
  });

  test("what has been put in is read back as it is", () => {
    const once = run(`${three}process-ready 1\nraft-state\n----\n\nstabilize\n----\n`);
    expect(run(once)).toBe(once);
  });

  test.each([
    ["campaign 1\n", 'line 1: "campaign 1" has no "----" after it'],
    ["# nothing\n----\n", 'line 2: "----" without a command before it'],
    ["nonsense\n----\n", 'line 1: nonsense: there is no command "nonsense"'],
    ["\nassert nonsense\n----\n", 'line 2: assert nonsense: there is no assertion "nonsense"'],
    ["campaign 7\n----\n", "line 1: campaign 7: there is no node 7"],
    ["add-nodes 1 voter=(1)\n----\n", 'line 1: add-nodes 1 voter=(1): add-nodes knows no "voter"'],
    ["repeat 3\n----\n", 'line 1: "repeat" without "end"'],
  ])("%j is refused", (text, message) => {
    expect(() => run(text)).toThrow(message);
  });
});

describe("assertions", () => {
  test.each([
    ["assert leader=2", "the leader is 1"],
    ["assert leader=none", "the leader is 1"],
    ["assert term all=3", "it is 2 on node 1"],
    ["assert commit 1<11", "it is 11 on node 1"],
    ["assert commit", "nothing is claimed"],
    ["assert conf all voters=(1,2)", "node 1 has voters=(1,2,3)"],
    ["assert progress on=1 to=2 state=probe", "state is replicate"],
    ["assert outcome=no-leader", "it is taken"],
    ["assert read 1 7=11", "node 1 has no answer to 7"],
    ["crash 2\nassert commit 2=11", "node 2 is down"],
    ["propose 1 a\nprocess-ready 1\nassert no-messages", "there are 2: 1->2 MsgApp"],
    ["propose 1 a\nprocess-ready 1\nassert same-logs 1 2", "their logs end at 12, 11"],
    ["repeat 3 as=i\n  propose 1 a$i\n  assert last 1<=12\nend", "it is 13 on node 1 (round 2 of 3)"],
  ])("%j fails", (lines, message) => {
    expect(() => run(`${three}${lines}\n----\n`)).toThrow(message);
  });
});

describe("the watch", () => {
  test("two leaders of one term", () => {
    // Both disks forgot the vote that they gave: each can be told to lead the same term.
    const text = `add-nodes 2 voters=(1,2) prevote=no checkquorum=no
campaign 1
stabilize
crash 1 2
wipe 1
wipe 2
restart 1 2
campaign 2
stabilize
----
`;
    expect(() => run(text)).toThrow("1 and 2 both lead term 2");
  });

  test("what was applied and is another", () => {
    const text = `add-nodes 1 voters=(1)
campaign 1
stabilize
propose 1 a
stabilize
crash 1
wipe 1
restart 1
campaign 1
stabilize
propose 1 b
stabilize
----
`;
    expect(() => run(text)).toThrow(/leads term 2 without the applied entry|where 2\/12 "a" had been applied/);
  });

  test("an invariant that the core itself holds stops the scenario", () => {
    const text = `${three}propose 1 a\nstabilize\ncrash 3\nwipe 3\nrestart 3\n`;
    expect(() => run(`${text}tick-heartbeat 1\nstabilize\n----\n`)).toThrow("entries were lost");
  });
});
