// A random run within a scenario: every step draws what happens next. For what no written order can cover; the
// simulator goes further (disks, clocks), this one shows a named property.

import type { Member } from "./member.js";
import type { NodeId, Status } from "../core/mod.js";
import { knowsOnly, option, raise } from "./arguments.js";
import type { ScenarioEnv } from "./env.js";
import type { Command } from "./format.js";

/** mulberry32: a few lines, and the same everywhere. */
export function seeded(seed: number): (n: number) => number {
  let state = seed >>> 0;
  return (n) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * n);
  };
}

const keys = ["steps", "loss", "twice", "tick", "propose", "crash", "restart", "change", "compact", "transfer", "read"];

/**
 * `shake steps=500 loss=10 twice=5 crash=1 …`: loss and twice in percent of deliveries, the others are weights against
 * 50 for a delivery in any order and 50 for a step of a Ready. Crashed nodes stay down until a `restart` is drawn.
 */
export function shake(env: ScenarioEnv, command: Command): void {
  knowsOnly(command, keys);
  const { cluster } = env;
  const random = cluster.seeded ?? raise('shake needs "random seed=…" before it');
  const pick = <T>(from: readonly T[]): T | undefined => from[random(from.length)];
  const loss = option(command, "loss", 5);
  const twice = option(command, "twice", 5);
  const actions: Record<string, { weight: number; run: (member: Member) => void }> = {
    deliver: {
      weight: 50,
      run: () => {
        const message = pick(cluster.queue);
        if (message === undefined) return;
        if (random(100) >= twice) cluster.queue.splice(cluster.queue.indexOf(message), 1);
        if (random(100) >= loss) cluster.deliver([message]);
      },
    },
    ready: {
      weight: 50,
      run: ({ id, taken }) => {
        if (taken === undefined) cluster.take(id);
        else if (!taken.persisted) cluster.persist(id);
        else cluster.finish(id);
      },
    },
    tick: {
      weight: option(command, "tick", 10),
      run: ({ running }) => {
        running.tick();
      },
    },
    propose: {
      weight: option(command, "propose", 5),
      run: ({ running, id }) => {
        running.propose(new TextEncoder().encode(`s${id}.${++env.shaken}`));
      },
    },
    crash: {
      weight: option(command, "crash", 0),
      run: (member) => {
        if (member.taken?.persisted === false && random(2) === 0) cluster.persist(member.id);
        member.crash();
      },
    },
    restart: {
      weight: option(command, "restart", option(command, "crash", 0) * 3),
      run: () => {
        pick([...cluster.members.values()].filter(({ raw }) => raw === undefined))?.start();
      },
    },
    change: {
      weight: option(command, "change", 0),
      run: ({ running }) => {
        change(running.status(), [...cluster.members.keys()], random, running);
      },
    },
    compact: {
      weight: option(command, "compact", 0),
      run: (member) => {
        if (member.applied < member.storage.firstIndex() || member.taken !== undefined) return;
        if ((member.storage.snapshot()?.index ?? 0) < member.applied) member.snapshot();
        member.storage.compact(member.applied - random(3));
      },
    },
    transfer: {
      weight: option(command, "transfer", 0),
      run: ({ running }) => {
        running.transferLeader(pick([...cluster.members.keys()]) ?? 0);
      },
    },
    read: {
      weight: option(command, "read", 0),
      run: ({ running, id }) => {
        const context = ++env.shaken;
        if (running.readIndex(context) === undefined) cluster.watch.asked(id, context);
      },
    },
  };

  const lot = Object.values(actions).flatMap((action) => Array.from({ length: action.weight }, () => action));
  env.out.silently(() => {
    const steps = option(command, "steps", 500);
    for (let step = 0; step < steps; step++) {
      const running = [...cluster.members.values()].filter(({ raw }) => raw !== undefined);
      const action = pick(lot);
      const member = pick(running) ?? [...cluster.members.values()][0];
      if (action === undefined || member === undefined) return;
      if (member.raw === undefined) actions["restart"]?.run(member);
      else action.run(member);
      if (step % 50 === 0) cluster.reportLostSnapshots();
      cluster.check();
    }
  });
}

/** A change that makes sense for the one it is asked of: never the last voter out. */
function change(
  { role, confState }: Status,
  ids: readonly NodeId[],
  random: (n: number) => number,
  raw: Member["running"],
): void {
  if (role !== "leader") return;
  const id = ids[random(ids.length)] ?? raise("there are no nodes");
  const voter = confState.voters.includes(id);
  if (voter && confState.voters.length <= 2) return;
  const type = voter
    ? (["remove", "add-learner"] as const)[random(2)]
    : (["add-voter", "add-learner"] as const)[random(2)];
  const transition = (["auto", "joint-implicit"] as const)[random(2)];
  if (type !== undefined && transition !== undefined) {
    raw.proposeConfChange({ transition, changes: [{ type, id }], context: new Uint8Array(0) });
  }
}
