// Every scenario file of this folder, one test each. UPDATE_SCENARIOS=1 writes what they print into them; see README.md.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { ScenarioEnv } from "./env.js";
import { parseScenario, renderScenario } from "./format.js";

const folder = fileURLToPath(new URL(".", import.meta.url));
const updating = process.env["UPDATE_SCENARIOS"] === "1";

/** The list of the design, in its order. */
const names = [
  ...["campaign", "single_node", "checkquorum", "prevote", "prevote_checkquorum", "learner_must_vote"],
  ...["async_append_aba", "probe_and_replicate", "replicate_pause", "heartbeat_recovers_probing", "lagging_commit"],
  ...["slow_follower_after_compaction", "snapshot_succeeds_via_app_resp", "confchange_add", "confchange_remove"],
  ...["confchange_leader", "confchange_step_down", "joint_add_double_auto", "joint_add_double_implicit"],
  ...["joint_add_double_explicit", "replace_leader", "learners_next", "joint_commit_quorum", "joint_vote_quorum"],
  ...["own_term_commit_before_reads", "figure_8", "overwrite_minority_tail", "reordered_and_duplicated"],
  ...["disruptive_follower", "leader_transfer_with_writes", "fast_rejection", "bounded_growth_under_partition"],
  ...["removed_node_elects_nobody", "re_election", "many_elections", "no_agreement_without_majority"],
  ...["concurrent_proposals", "rejoin", "long_back_up", "idle_message_count", "persistence_restart_orders", "churn"],
  ...["snapshot_install_with_loss_and_crashes", "removed_node_with_old_disk", "two_to_one_leader_leaves"],
];

test("the files are those of the list", () => {
  const files = readdirSync(folder).filter((name) => name.endsWith(".txt"));
  expect(files.map((name) => name.slice(0, -".txt".length)).sort()).toEqual(names.toSorted());
});

describe("scenarios", () => {
  test.each(names)("%s", (name) => {
    const path = `${folder}${name}.txt`;
    const text = readFileSync(path, "utf8");
    const file = parseScenario(text);
    expect(text.startsWith("# "), "a scenario begins with a comment that says its property").toBe(true);
    // An assertion that fails throws here, and nothing is rewritten.
    const outputs = new ScenarioEnv().run(file);
    const actual = renderScenario(file, outputs);
    if (updating) writeFileSync(path, actual);
    else expect(actual).toBe(text);
  });
});
