// What a scenario claims. An assertion that fails stops it, whatever its transcript says or is rewritten to.

import type { ConfState, Entry, MessageType, NodeId, Status } from "../core/mod.js";
import { flag, idSet, raise } from "./arguments.js";
import type { ScenarioEnv } from "./env.js";
import { type Command, ScenarioError } from "./format.js";
import { confText, entryText, idsText, messageText } from "./text.js";

type Assertion = (env: ScenarioEnv, command: Command) => void;

const noLimit = Number.MAX_SAFE_INTEGER;

interface Claim {
  subject: string;
  operator: string;
  value: string;
}

/** `1=11`, `2>=12`, `MsgApp<=5`: the claims among the words and pairs of an assertion. */
function claims(command: Command): Claim[] {
  const pairs = [...command.named].map(([subject, values]) => ({ subject, operator: "=", value: values.join(",") }));
  const others = command.words.flatMap((word) => {
    const parts = /^([A-Za-z0-9-]+)(>=|<=|!=|<|>)(.+)$/.exec(word);
    return parts === null ? [] : [{ subject: parts[1] ?? "", operator: parts[2] ?? "", value: parts[3] ?? "" }];
  });
  return [...pairs, ...others];
}

function holds(actual: string | number, { operator, value }: Claim): boolean {
  switch (operator) {
    case "=":
      return String(actual) === value;
    case "!=":
      return String(actual) !== value;
    case ">=":
      return Number(actual) >= Number(value);
    case "<=":
      return Number(actual) <= Number(value);
    case ">":
      return Number(actual) > Number(value);
    case "<":
      return Number(actual) < Number(value);
    default:
      throw new ScenarioError(`no operator ${operator}`);
  }
}

/** An assertion about something of each node: `assert commit 1=11 2>=12`; `all`, `running` name several. */
function perNode(what: (env: ScenarioEnv, id: NodeId) => string | number): Assertion {
  return (env, command) => {
    const all = claims(command);
    if (all.length === 0) raise("nothing is claimed");
    for (const claim of all) {
      for (const id of env.ids([claim.subject])) {
        const actual = what(env, id);
        if (!holds(actual, claim)) raise(`it is ${actual} on node ${id}`);
      }
    }
  };
}

function statusOf(env: ScenarioEnv, id: NodeId): Status {
  return env.cluster.member(id).running.status();
}

function logOf(env: ScenarioEnv, id: NodeId): readonly Entry[] {
  const { storage, taken } = env.cluster.member(id);
  if (taken !== undefined) raise(`node ${id} has a Ready under way: what its log is, is open`);
  const entries = storage.entries(storage.firstIndex(), storage.lastIndex() + 1, noLimit);
  return typeof entries === "string" ? raise(`the log of ${id} is ${entries}`) : entries;
}

/** Equal from where both begin, and to the same end. */
function sameLogs(env: ScenarioEnv, { words }: Command): void {
  const logs = env.ids(words.slice(1)).map((id) => ({ id, entries: logOf(env, id) }));
  const [one, ...others] = logs;
  if (one === undefined || others.length === 0) raise("same-logs needs two nodes at least");
  const ends = logs.map(({ id }) => env.cluster.member(id).storage.lastIndex());
  if (new Set(ends).size > 1) raise(`their logs end at ${ends.join(", ")}`);
  const first = Math.max(...logs.map(({ id }) => env.cluster.member(id).storage.firstIndex()));
  const text = (entries: readonly Entry[]): string =>
    entries
      .filter(({ index }) => index >= first)
      .map(entryText)
      .join(", ");
  for (const other of others) {
    if (text(other.entries) !== text(one.entries))
      raise(`${one.id}: ${text(one.entries)}; ${other.id}: ${text(other.entries)}`);
  }
}

function sameState(env: ScenarioEnv, { words }: Command): void {
  const [one, ...others] = env.ids(words.slice(1)).map((id) => env.cluster.member(id));
  if (one === undefined || others.length === 0) raise("same-state needs two nodes at least");
  for (const other of others) {
    if (one.applied !== other.applied) raise(`${one.id} applied ${one.applied}, ${other.id} ${other.applied}`);
    if (one.state.join(",") !== other.state.join(",")) {
      raise(`${one.id} has ${idsLike(one.state)}, ${other.id} has ${idsLike(other.state)}`);
    }
  }
}

function idsLike(state: readonly string[]): string {
  return `(${state.join(",")})`;
}

/** What was once applied anywhere is in every log that claims to have committed it, and in the leader's. */
function committedUnchanged(env: ScenarioEnv): void {
  const { watch, members } = env.cluster;
  const leader = env.leader();
  for (const { id, raw, storage } of members.values()) {
    const commit = raw?.status().commit ?? storage.initialState().hardState.commit;
    for (const [index, entry] of watch.applied) {
      if (index < storage.firstIndex() || (index > commit && id !== leader)) continue;
      const entries = storage.entries(index, index + 1, noLimit);
      const [own] = typeof entries === "string" ? [] : entries;
      if (own === undefined) raise(`node ${id} has no entry ${index}; committed is ${entryText(entry)}`);
      if (entryText(own) !== entryText(entry))
        raise(`node ${id} has ${entryText(own)}; committed is ${entryText(entry)}`);
    }
  }
}

function conf(env: ScenarioEnv, command: Command): void {
  const expected: ConfState = {
    voters: idSet(command, "voters"),
    votersOutgoing: idSet(command, "outgoing"),
    learners: idSet(command, "learners"),
    learnersNext: idSet(command, "next"),
    autoLeave: flag(command, "auto-leave") ?? false,
  };
  for (const id of env.ids(command.words.slice(1))) {
    const actual = confText(env.cluster.member(id).running.confState);
    if (actual !== confText(expected)) raise(`node ${id} has ${actual}`);
  }
}

/** `assert progress on=1 to=3 state=probe match=10`. */
function progress(env: ScenarioEnv, command: Command): void {
  const on = env.ids(command.named.get("on") ?? [])[0] ?? raise("progress needs on=");
  const to = env.ids(command.named.get("to") ?? [])[0] ?? raise("progress needs to=");
  const actual = statusOf(env, on).progress.get(to) ?? raise(`${on} has no progress of ${to}`);
  const values: Record<string, string | number> = {
    state: actual.state,
    match: actual.match,
    next: actual.next,
    paused: actual.paused ? "yes" : "no",
    active: actual.recentActive ? "yes" : "no",
    learner: actual.isLearner ? "yes" : "no",
    inflight: actual.inflight,
    pending: actual.pendingSnapshot,
  };
  for (const claim of claims(command)) {
    if (claim.subject === "on" || claim.subject === "to") continue;
    const value = values[claim.subject] ?? raise(`progress has no "${claim.subject}"`);
    if (!holds(value, claim)) raise(`${claim.subject} is ${value}`);
  }
}

function messages(env: ScenarioEnv, command: Command): void {
  const to = command.named.get("to");
  const found = env.cluster.queue.filter((m) => {
    const filter = env.filter(command, to === undefined ? [] : env.ids(to));
    return (
      (filter.to?.includes(m.to) ?? true) &&
      (filter.from?.includes(m.from) ?? true) &&
      (filter.types?.includes(m.type) ?? true)
    );
  });
  const claim = claims(command).find(({ subject }) => subject === "messages") ?? raise("messages needs a number");
  if (!holds(found.length, claim)) raise(`there are ${found.length}: ${found.map(messageText).join("; ")}`);
}

function sent(env: ScenarioEnv, command: Command): void {
  const { counts } = env.cluster;
  for (const claim of claims(command)) {
    const all = claim.subject === "all";
    const count = all ? [...counts.values()].reduce((a, b) => a + b, 0) : counts.get(claim.subject as MessageType);
    if (!holds(count ?? 0, claim)) {
      raise(`${count ?? 0} were sent: ${[...counts].map(([type, n]) => `${type} ${n}`).join(", ")}`);
    }
  }
}

/** `assert read 2 7=12`: node 2 got leave to read context 7 at index 12. */
function read(env: ScenarioEnv, command: Command): void {
  const id = env.id(command, 1);
  for (const claim of claims(command)) {
    const found = env.cluster.member(id).reads.filter(({ context }) => String(context) === claim.subject);
    const last = found.at(-1) ?? raise(`node ${id} has no answer to ${claim.subject}`);
    if (!holds(last.index, claim)) raise(`it is at ${last.index}`);
  }
}

function noRead(env: ScenarioEnv, { words }: Command): void {
  const [, , ...contexts] = words;
  for (const id of env.ids(words.slice(1, 2))) {
    for (const { context, index } of env.cluster.member(id).reads) {
      if (contexts.length === 0 || contexts.includes(String(context))) raise(`node ${id} read ${context} at ${index}`);
    }
  }
}

export const assertions: ReadonlyMap<string, Assertion> = new Map<string, Assertion>([
  [
    "leader",
    (env, command) => {
      const expected = command.named.get("leader")?.[0] ?? raise("leader needs a node, none or any");
      const actual = env.leader();
      if (
        expected === "any"
          ? actual === undefined
          : (actual ?? "none") !== (expected === "none" ? "none" : Number(expected))
      ) {
        raise(`the leader is ${actual ?? "none"}`);
      }
    },
  ],
  ["lead", perNode((env, id) => statusOf(env, id).lead)],
  ["role", perNode((env, id) => statusOf(env, id).role)],
  ["term", perNode((env, id) => statusOf(env, id).term)],
  ["vote", perNode((env, id) => statusOf(env, id).vote)],
  ["commit", perNode((env, id) => statusOf(env, id).commit)],
  ["last", perNode((env, id) => statusOf(env, id).lastIndex)],
  ["applied", perNode((env, id) => env.cluster.member(id).applied)],
  ["transferee", perNode((env, id) => statusOf(env, id).leadTransferee)],
  ["stored", perNode((env, id) => env.cluster.member(id).storage.lastIndex())],
  ["first", perNode((env, id) => env.cluster.member(id).storage.firstIndex())],
  ["stored-term", perNode((env, id) => env.cluster.member(id).storage.initialState().hardState.term)],
  ["state", perNode((env, id) => env.cluster.member(id).state.join(","))],
  ["state-size", perNode((env, id) => env.cluster.member(id).state.length)],
  [
    "log",
    perNode((env, id) =>
      logOf(env, id)
        .map(({ term }) => term)
        .join(","),
    ),
  ],
  ["same-logs", sameLogs],
  ["same-state", sameState],
  ["committed-unchanged", committedUnchanged],
  ["conf", conf],
  ["progress", progress],
  ["messages", messages],
  [
    "no-messages",
    (env) => {
      const { queue } = env.cluster;
      if (queue.length > 0) raise(`there are ${queue.length}: ${queue.map(messageText).join("; ")}`);
    },
  ],
  ["sent", sent],
  ["read", read],
  ["no-read", noRead],
  [
    "outcome",
    (env, command) => {
      const expected = command.named.get("outcome")?.[0];
      if ((env.outcome ?? "taken") !== expected) raise(`it is ${env.outcome ?? "taken"}`);
    },
  ],
  [
    "commits-kept",
    (env) => {
      for (const [id, commit] of env.remembered) {
        const now = statusOf(env, id).commit;
        if (now !== commit) raise(`node ${id} went from ${commit} to ${now}`);
      }
    },
  ],
  [
    "commits-grown",
    (env) => {
      for (const [id, commit] of env.remembered) {
        const now = statusOf(env, id).commit;
        if (now <= commit) raise(`node ${id} is still at ${now} of ${idsText([...env.remembered.keys()])}`);
      }
    },
  ],
]);
