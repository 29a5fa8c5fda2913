// What a scenario can do. README.md lists the commands for who writes one.

import type { ConfChange, ConfChangeType, Entry, NodeId } from "../core/mod.js";
import { emptyConfState, RaftInvariantError } from "../core/mod.js";
import { flag, idSet, knowsOnly, number, numbers, option, raise } from "./arguments.js";
import type { ScenarioEnv } from "./env.js";
import { type Command, ScenarioError } from "./format.js";
import type { Base, Member, MemberSettings } from "./member.js";
import { seeded, shake } from "./shake.js";
import { confText, entryText, messageText } from "./text.js";

type Run = (env: ScenarioEnv, command: Command) => void;

const encoder = new TextEncoder();
const noBytes = new Uint8Array(0);

/** Without a limit that a scenario does not ask for. */
const noLimit = Number.MAX_SAFE_INTEGER;

function settings(command: Command): MemberSettings {
  const preVote = flag(command, "prevote");
  const checkQuorum = flag(command, "checkquorum");
  const forwarding = flag(command, "forwarding");
  const stepDown = flag(command, "step-down-on-removal");
  const reads = command.named.get("reads")?.[0];
  if (reads !== undefined && reads !== "safe" && reads !== "lease") raise(`reads=${reads}: say safe or lease`);
  return {
    electionTick: option(command, "election-tick", 3),
    heartbeatTick: option(command, "heartbeat-tick", 1),
    maxSizePerMsg: option(command, "max-size", noLimit),
    maxCommittedSizePerReady: option(command, "max-committed", noLimit),
    maxUncommittedSize: option(command, "max-uncommitted", noLimit),
    maxInflightMsgs: option(command, "inflight", 256),
    maxInflightBytes: option(command, "inflight-bytes", noLimit),
    maxPendingReads: option(command, "max-reads", 10_000),
    ...(preVote === undefined ? {} : { preVote }),
    ...(checkQuorum === undefined ? {} : { checkQuorum }),
    ...(forwarding === undefined ? {} : { disableForwarding: !forwarding }),
    ...(stepDown === undefined ? {} : { stepDownOnRemoval: stepDown }),
    ...(reads === undefined ? {} : { readOnly: reads }),
  };
}

const settingKeys = [
  ...["election-tick", "heartbeat-tick", "max-size", "max-committed", "max-uncommitted", "inflight"],
  ...["inflight-bytes", "max-reads", "prevote", "checkquorum", "forwarding", "step-down-on-removal", "reads"],
];

const emptyBase: Base = { index: 0, term: 0, confState: emptyConfState };

function addNodes(env: ScenarioEnv, command: Command): void {
  knowsOnly(command, ["voters", "learners", "index", "term", ...settingKeys]);
  const count = number(command, command.words[0], "a number of nodes");
  const index = option(command, "index", 10);
  const given: Base = {
    index,
    term: option(command, "term", index === 0 ? 0 : 1),
    confState: { ...emptyConfState, voters: idSet(command, "voters"), learners: idSet(command, "learners") },
  };
  // Who joins later begins as the first ones did, or with nothing at all and needs a snapshot.
  const base = command.words[1] === "empty" ? emptyBase : (env.cluster.base ?? given);
  if (env.cluster.base !== undefined && command.named.has("voters")) raise("only the first nodes have a configuration");
  // And with their settings, but for what is said otherwise.
  for (const [key, value] of command.named) if (settingKeys.includes(key)) env.settings.set(key, value);
  for (let i = 0; i < count; i++) env.cluster.add(base, settings({ ...command, named: env.settings }));
}

function each(what: (env: ScenarioEnv, id: NodeId) => void): Run {
  return (env, command) => {
    if (command.words.length === 0) raise(`${command.name} needs nodes`);
    for (const id of env.ids(command.words)) what(env, id);
  };
}

/** `tick 1 2 n=3`; messages that a tick makes are sent by the next Ready. */
function tick(env: ScenarioEnv, id: NodeId, times: number): void {
  for (let i = 0; i < times; i++) {
    env.cluster.member(id).running.tick();
    env.cluster.check();
  }
}

function settingOf(member: Member, key: "electionTick" | "heartbeatTick"): number {
  return member.settings[key];
}

function propose(env: ScenarioEnv, command: Command): void {
  knowsOnly(command, ["bytes"]);
  const raw = env.cluster.member(env.id(command)).running;
  const bytes = option(command, "bytes", 0);
  const texts = command.words.slice(1).map((word) => word.padEnd(bytes, "."));
  if (texts.length === 0) raise("propose needs something to propose");
  const proposals = texts.map((text) => ({ type: "normal" as const, data: encoder.encode(text) }));
  const [only] = proposals;
  env.note(only !== undefined && proposals.length === 1 ? raw.propose(only.data) : raw.proposeMany(proposals));
}

const changeTypes: Readonly<Record<string, ConfChangeType>> = { v: "add-voter", l: "add-learner", r: "remove" };

export function changeOf(words: readonly string[], transition = "auto"): ConfChange {
  const how = { auto: "auto", implicit: "joint-implicit", explicit: "joint-explicit" } as const;
  const known = Object.entries(how).find(([name]) => name === transition)?.[1];
  if (known === undefined) throw new ScenarioError(`transition=${transition}: say auto, implicit or explicit`);
  const changes = words.map((word) => {
    const type = changeTypes[word[0] ?? ""];
    const id = Number(word.slice(1));
    if (type === undefined || !Number.isInteger(id)) throw new ScenarioError(`"${word}" is no change: v4, l5 or r1`);
    return { type, id };
  });
  return { transition: known, changes, context: noBytes };
}

function proposeConfChange(env: ScenarioEnv, command: Command): void {
  knowsOnly(command, ["transition"]);
  const change = changeOf(command.words.slice(1), command.named.get("transition")?.[0]);
  env.note(env.cluster.member(env.id(command)).running.proposeConfChange(change));
}

function readIndex(env: ScenarioEnv, command: Command): void {
  const id = env.id(command);
  const context = number(command, command.words[1], "a context");
  const outcome = env.cluster.member(id).running.readIndex(context);
  if (outcome === undefined) env.cluster.watch.asked(id, context);
  env.note(outcome);
}

const filterKeys = ["from", "type", "drop", "first", "order"];

function deliver(env: ScenarioEnv, command: Command): void {
  knowsOnly(command, filterKeys);
  const words = command.words.filter((word) => word !== "keep");
  const { cluster } = env;
  const drop = numbers(command, "drop");
  for (const message of drop.length === 0 ? [] : cluster.pick(env.filter(command, drop))) {
    env.out.say(`dropped ${messageText(message)}`);
  }
  if (drop.length > 0 && words.length === 0) return;
  const filter = env.filter(command, env.ids(words));
  let messages = cluster.pick(filter);
  const first = option(command, "first", messages.length);
  // Order among those that stay is kept: they were sent before whatever these bring about.
  cluster.queue.unshift(...messages.slice(first));
  messages = messages.slice(0, first);
  if (command.words.includes("keep")) cluster.queue.push(...messages);
  cluster.deliver(command.named.get("order")?.[0] === "reverse" ? messages.toReversed() : messages);
}

/**
 * `inject-app 1 3 prev=2/12 commit=14`: a MsgApp without entries of leader 1, which this core would not send now, and
 * another one may.
 */
function injectApp(env: ScenarioEnv, command: Command): void {
  knowsOnly(command, ["prev", "commit"]);
  const from = env.id(command);
  const [prevTerm, prevIndex] = (command.named.get("prev")?.[0] ?? "").split("/");
  const { term } = env.cluster.member(from).running.status();
  env.cluster.queue.push({
    ...{ type: "MsgApp", from, to: env.id(command, 1), term, entries: [] },
    prevTerm: number(command, prevTerm, "prev=term/index"),
    prevIndex: number(command, prevIndex, "prev=term/index"),
    commit: option(command, "commit", 0),
  });
}

function hold(env: ScenarioEnv, command: Command): void {
  knowsOnly(command, ["from", "type"]);
  const messages = env.cluster.pick(env.filter(command, env.ids(command.words)));
  for (const message of messages) env.out.say(`held ${messageText(message)}`);
  env.cluster.held.push(...messages);
}

function isolate(env: ScenarioEnv, id: NodeId): void {
  for (const other of env.cluster.members.keys()) {
    if (other === id) continue;
    env.cluster.cut(id, other);
    env.cluster.cut(other, id);
  }
}

/** `partition (1,2) (3,4,5)`: nothing passes between the groups. */
function partition(env: ScenarioEnv, command: Command): void {
  const groups = command.words.map((word) => env.ids(word.replace(/[()]/g, "").split(",")));
  for (const group of groups) {
    for (const other of groups) {
      if (group === other) continue;
      for (const from of group) for (const to of other) env.cluster.cut(from, to);
    }
  }
}

/** Writes a log to the disk of a node, as Figures 7 and 8 give them: one term per entry, from the base on. */
function setLog(env: ScenarioEnv, command: Command): void {
  knowsOnly(command, ["terms", "term", "vote", "commit"]);
  const member = env.cluster.member(env.id(command));
  const first = member.storage.lastIndex() + 1;
  if (member.raw !== undefined) member.crash();
  const entries = numbers(command, "terms").map(
    (term, at): Entry => ({ term, index: first + at, type: "normal", data: encoder.encode(`${term}.${first + at}`) }),
  );
  const { hardState } = member.storage.initialState();
  member.write(entries, {
    term: option(command, "term", Math.max(hardState.term, entries.at(-1)?.term ?? 0)),
    vote: option(command, "vote", 0),
    commit: option(command, "commit", hardState.commit),
  });
  member.start();
}

function raftLog(env: ScenarioEnv, id: NodeId): void {
  const { storage } = env.cluster.member(id);
  const first = storage.firstIndex();
  const entries = storage.entries(first, storage.lastIndex() + 1, noLimit);
  if (typeof entries === "string") raise(`the log of ${id} is ${entries}`);
  if (entries.length === 0) env.out.say(`${id}: empty, first would be ${first}`);
  for (const entry of entries) env.out.say(`${id}: ${entryText(entry)}`);
}

function raftState(env: ScenarioEnv): void {
  for (const { id, raw, storage, applied } of env.cluster.members.values()) {
    if (raw === undefined) {
      env.out.say(`${id} down, on disk last=${storage.lastIndex()} commit=${storage.initialState().hardState.commit}`);
      continue;
    }
    const { role, term, lead, commit, lastIndex } = raw.status();
    env.out.say(`${id} ${role} term=${term} lead=${lead} commit=${commit} applied=${applied} last=${lastIndex}`);
  }
}

function status(env: ScenarioEnv, id: NodeId): void {
  const { progress, leadTransferee, confState } = env.cluster.member(id).running.status();
  env.out.say(`${confText(confState)}${leadTransferee === 0 ? "" : ` transferee=${leadTransferee}`}`);
  for (const [to, p] of progress) {
    const marks = [
      ...(p.paused ? ["paused"] : []),
      ...(p.inflight > 0 ? [`inflight=${p.inflight}`] : []),
      ...(p.pendingSnapshot > 0 ? [`pending=${p.pendingSnapshot}`] : []),
      ...(p.isLearner ? ["learner"] : []),
    ];
    env.out.say([`${to} ${p.state} match=${p.match} next=${p.next}`, ...marks].join(" "));
  }
}

/** Nodes that heard of no leader for an election timeout, but do not campaign: their leader is not protected. */
function expire(env: ScenarioEnv, id: NodeId): void {
  tick(env, id, settingOf(env.cluster.member(id), "electionTick"));
}

/** The shortest way to a leader, silently: the others stop to protect the old one, then this one campaigns. */
function elect(env: ScenarioEnv, command: Command): void {
  const id = env.id(command);
  env.out.silently(() => {
    const { cluster } = env;
    const running = env.ids(["running"]);
    for (const other of running) {
      if (cluster.member(other).running.status().role !== "leader") expire(env, other);
    }
    cluster.member(id).running.campaign();
    cluster.stabilize(running);
  });
  if (env.leader() !== id) raise(`node ${id} was not elected`);
}

/** Runs the rest of the line, which must break an invariant of the node: it stops, as the process would. */
function mustStop(env: ScenarioEnv, command: Command, rest: Command): void {
  const id = env.id(command);
  try {
    env.runCommand(rest);
  } catch (error) {
    if (!(error instanceof RaftInvariantError)) throw error;
    env.out.say(`node ${id} stops: ${error.message}`);
    env.cluster.member(id).crash();
    return;
  }
  raise(`node ${id} did not stop`);
}

export const commands: ReadonlyMap<string, Run> = new Map<string, Run>([
  ["add-nodes", addNodes],
  ["set-log", setLog],
  [
    "log-level",
    (env, command) => {
      const level = command.words[0];
      if (level !== "none" && level !== "info" && level !== "debug") raise("log-level is none, info or debug");
      env.out.level = level;
    },
  ],
  [
    "random",
    (env, command) => {
      env.cluster.seeded = seeded(option(command, "seed", 1));
    },
  ],
  [
    "extra-ticks",
    (env, command) => {
      env.cluster.extras.set(env.id(command), number(command, command.words[1], "a number of ticks"));
    },
  ],
  [
    "campaign",
    each((env, id) => {
      env.note(env.cluster.member(id).running.campaign());
    }),
  ],
  ["elect", elect],
  [
    "tick",
    (env, command) => {
      for (const id of env.ids(command.words)) tick(env, id, option(command, "n", 1));
    },
  ],
  ["tick-election", each(expire)],
  [
    "tick-heartbeat",
    each((env, id) => {
      tick(env, id, settingOf(env.cluster.member(id), "heartbeatTick"));
    }),
  ],
  ["propose", propose],
  ["propose-conf-change", proposeConfChange],
  ["read-index", readIndex],
  [
    "transfer-leadership",
    (env, command) => {
      env.note(
        env.cluster.member(env.id(command)).running.transferLeader(number(command, command.words[1], "a transferee")),
      );
    },
  ],
  [
    "forget-leader",
    each((env, id) => {
      env.note(env.cluster.member(id).running.forgetLeader());
    }),
  ],
  [
    "report-unreachable",
    (env, command) => {
      env.cluster.member(env.id(command)).running.reportUnreachable(env.id(command, 1));
    },
  ],
  [
    "report-snapshot",
    (env, command) => {
      const how = command.words[2];
      if (how !== "succeeded" && how !== "failed") raise("report-snapshot 1 3 succeeded|failed");
      env.cluster.member(env.id(command)).running.reportSnapshot(env.id(command, 1), how === "succeeded");
    },
  ],
  [
    "take",
    each((env, id) => {
      env.cluster.take(id);
    }),
  ],
  [
    "persist",
    (env, command) => {
      env.cluster.persist(env.id(command), command.words[1] === "torn");
    },
  ],
  [
    "finish",
    each((env, id) => {
      env.cluster.finish(id);
    }),
  ],
  [
    "process-ready",
    each((env, id) => {
      env.cluster.process(id);
    }),
  ],
  [
    "hold-apply",
    each((env, id) => {
      env.cluster.member(id).holdsApply = true;
    }),
  ],
  [
    "resume-apply",
    each((env, id) => {
      env.cluster.member(id).holdsApply = false;
    }),
  ],
  [
    "apply",
    (env, command) => {
      const member = env.cluster.member(env.id(command));
      for (const line of member.apply(option(command, "n", member.toApply.length))) env.out.say(line);
      member.reportApplied();
    },
  ],
  [
    "stabilize",
    (env, command) => {
      env.cluster.stabilize(env.ids(command.words.length === 0 ? ["all"] : command.words));
    },
  ],
  [
    "settle",
    (env, command) => {
      const ids = env.ids(command.words.length === 0 ? ["all"] : command.words);
      env.out.silently(() => {
        env.cluster.settle(ids, option(command, "rounds", 200));
      });
    },
  ],
  ["shake", shake],
  ["deliver-msgs", deliver],
  ["hold", hold],
  ["inject-app", injectApp],
  [
    "release",
    (env) => {
      env.cluster.queue.push(...env.cluster.held.splice(0));
    },
  ],
  [
    "messages",
    (env) => {
      for (const message of env.cluster.queue) env.out.say(messageText(message));
    },
  ],
  [
    "count-messages",
    (env) => {
      env.cluster.counts.clear();
    },
  ],
  ["isolate", each(isolate)],
  [
    "cut",
    (env, command) => {
      for (const word of command.words) {
        const [from = "", to = ""] = word.split("->");
        env.cluster.cut(...([env.ids([from])[0] ?? raise(word), env.ids([to])[0] ?? raise(word)] as const));
      }
    },
  ],
  ["partition", partition],
  [
    "heal",
    (env) => {
      env.cluster.heal();
    },
  ],
  [
    "crash",
    each((env, id) => {
      env.cluster.member(id).crash();
    }),
  ],
  [
    "restart",
    each((env, id) => {
      env.cluster.member(id).start();
    }),
  ],
  [
    "restart-all",
    (env) => {
      for (const member of env.cluster.members.values()) if (member.raw === undefined) member.start();
    },
  ],
  [
    "wipe",
    (env, command) => {
      env.cluster.wipe(env.id(command), command.words[1] === "empty" ? emptyBase : (env.cluster.base ?? emptyBase));
    },
  ],
  [
    "snapshot",
    each((env, id) => {
      const meta = env.cluster.member(id).snapshot();
      env.out.say(`snapshot ${meta.term}/${meta.index} ${confText(meta.confState)}`);
    }),
  ],
  [
    "compact",
    (env, command) => {
      const { storage } = env.cluster.member(env.id(command));
      storage.compact(number(command, command.words[1], "an index"));
      env.out.say(`first=${storage.firstIndex()} last=${storage.lastIndex()}`);
    },
  ],
  ["raft-log", each(raftLog)],
  ["raft-state", raftState],
  ["status", each(status)],
  [
    "remember-commits",
    (env) => {
      for (const { id, raw } of env.cluster.members.values()) env.remembered.set(id, raw?.status().commit ?? 0);
    },
  ],
  [
    "must-stop",
    (env, command) => {
      const [, name = "", ...words] = command.words;
      mustStop(env, command, { ...command, name, words });
    },
  ],
]);
