import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { silentLogger } from "../../lib/mod.js";
import { ContainerPhase, TaskState } from "../../proto/mod.js";
import { assignmentOf as message } from "../../test/kit/agent.js";
import { makeCluster, makeNode } from "../../test/kit/objects.js";
import { assignmentOf, newRecord } from "./record.js";
import { type Memory, StateFile } from "./state-file.js";

let dir: string;
let path: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "flotilla-state-"));
  path = join(dir, "agent-state.json");
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function memory(tasks: string[]): Memory {
  return {
    nodeId: "node0123456789",
    managers: ["10.0.0.1:7400"],
    host: {
      node: makeNode("node0123456789"),
      cluster: makeCluster(),
    },
    contactAtMs: 1_700_000_000_000,
    records: tasks.map((id) => ({
      ...newRecord(assignmentOf(message(id, { image: "x", ports: [80] })), 5),
      state: TaskState.RUNNING,
      containerId: `c-${id}`,
      phase: ContainerPhase.BACKING_OFF,
      restartsAtMs: [1, 2],
      countedRunMs: 77,
      endedRunMs: 77,
      epoch: "life 1",
      exitCode: 3,
    })),
  };
}

test("there is nothing before the first write, and everything after it", async () => {
  const file = new StateFile(path, silentLogger);
  expect(await file.read()).toBeUndefined();
  await file.write(() => memory(["a", "b"]));
  const read = await new StateFile(path, silentLogger).read();
  expect(JSON.parse(JSON.stringify(read))).toMatchObject(JSON.parse(JSON.stringify(memory(["a", "b"]))) as object);
  expect(readdirSync(dir)).toEqual(["agent-state.json"]);
});

test("a write that is awaited is in the file, however many come together", async () => {
  const file = new StateFile(path, silentLogger);
  let now: string[] = [];
  await Promise.all(
    Array.from({ length: 50 }, async (_, i) => {
      now = [...now, `t${i}`];
      const mine = `t${i}`;
      await file.write(() => memory(now));
      expect(readFileSync(path, "utf8")).toContain(`"containerId":"c-${mine}"`);
    }),
  );
  expect((await file.read())?.records).toHaveLength(50);
});

test.each(["", "{", "{}", '{"version":2,"nodeId":"x"}', '{"version":1,"nodeId":""}'])(
  "a damaged file (%j) is refused with its path and what to do",
  async (content) => {
    writeFileSync(path, content);
    const failure = await new StateFile(path, silentLogger).read().catch((thrown: unknown) => thrown);
    expect(failure).toMatchObject({ code: "failed_precondition" });
    expect(String(failure)).toContain(path);
    expect(String(failure)).toContain("join as a new node");
  },
);

test("a file of an agent that knew nothing of contacts is read as one without any", async () => {
  const file = new StateFile(path, silentLogger);
  await file.write(() => memory(["a"]));
  const content = JSON.parse(readFileSync(path, "utf8")) as { contactAtMs?: number; records: { cutOff?: boolean }[] };
  delete content.contactAtMs;
  for (const record of content.records) delete record.cutOff;
  writeFileSync(path, JSON.stringify(content));
  const read = await file.read();
  expect([read?.contactAtMs, read?.records[0]?.cutOff]).toEqual([0, false]);
});
