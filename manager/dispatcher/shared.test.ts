import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  AssignmentsKind,
  AssignmentsMessage,
  type AssignmentChange,
} from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import { type Task, TaskState } from "../../proto/mod.js";
import { FakeClock } from "../../test/kit/clock.js";
import { makeNode, makeRevision, makeService, makeTask } from "../../test/kit/objects.js";
import { openMemoryStore } from "../store/mod.js";
import { AssignmentSet } from "./assignments.js";
import { Pacer } from "./pacer.js";
import { SharedState } from "./shared.js";
import { encodeAssignments } from "./wire.js";

/** What an agent makes of the bytes it is sent; it insists on the chain. */
class Reader {
  readonly #items = new Map<string, AssignmentChange["item"]>();
  #at: string | undefined;

  take(bytes: Buffer): void {
    const { kind, appliesTo, resultsIn, changes } = AssignmentsMessage.decode(bytes);
    if (kind === AssignmentsKind.COMPLETE) {
      expect([this.#at, appliesTo]).toEqual([undefined, ""]);
    } else expect(appliesTo).toBe(this.#at);
    this.#at = resultsIn;
    for (const { item } of changes) {
      if (item === undefined) throw new Error("a change of nothing");
      if (item.$case === "task") this.#items.set(`task ${item.value.task?.meta?.id}`, item);
      else if (item.$case === "route" || item.$case === "node") this.#items.set(`${item.$case} ${item.value.id}`, item);
      else {
        const kindOf = { removedTaskId: "task", removedRouteId: "route", removedNodeId: "node" } as const;
        this.#items.delete(`${kindOf[item.$case]} ${item.value}`);
      }
    }
  }

  /** Of tasks only what managers decide: their agent knows their states better. */
  get state(): unknown {
    const told = [...this.#items].map(([key, item]): [string, unknown] => [
      key,
      item?.$case === "task" ? [item.value.task?.desiredState, item.value.drained] : item,
    ]);
    return told.sort(([a], [b]) => (a < b ? -1 : 1));
  }
}

const id = fc.integer({ min: 0, max: 5 });
const reader = fc.integer({ min: 0, max: 69 });
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant("route" as const), id, name: fc.string({ maxLength: 3 }) }) },
  fc.record({ do: fc.constant("no route" as const), id }),
  { weight: 2, arbitrary: fc.record({ do: fc.constant("node" as const), id, name: fc.string({ maxLength: 3 }) }) },
  fc.record({ do: fc.constant("no node" as const), id }),
  { weight: 3, arbitrary: fc.record({ do: fc.constant("task" as const), id, reader, gone: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("time" as const), ms: fc.integer({ min: 0, max: 60 }) }) },
  fc.record({ do: fc.constant("open" as const), reader }),
  fc.record({ do: fc.constant("stall" as const), reader }),
  fc.record({ do: fc.constant("trim" as const) }),
);

describe("SharedState, paced", () => {
  it("leaves every agent, after any changes, with what a COMPLETE would tell it", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const store = openMemoryStore();
        await store.update((tx) => {
          tx.create("services", makeService());
          tx.create("revisions", makeRevision(makeService()));
        });
        const clock = new FakeClock(0);
        const shared = new SharedState();
        const sources = { view: () => store.view(), shared, isDrained: () => false, announceMs: () => 0 };
        // More than are told at once.
        const sessions = Array.from({ length: 70 }, (_, i) => ({
          set: new AssignmentSet(`n${i}`, sources),
          reader: new Reader(),
          isOpen: false,
          reads: true,
        }));
        const pacer = new Pacer<(typeof sessions)[number]>({
          clock,
          revision: () => shared.revision,
          bytesSince: (revision) => shared.since(revision).bytes.length,
          tell: (session) => tell(session),
        });
        const tell = (session: (typeof sessions)[number]) => {
          if (!session.isOpen || !session.reads) return;
          const message = session.set.incremental();
          if (message === undefined) return;
          pacer.told(session);
          session.reader.take(encodeAssignments(message));
        };
        const open = (session: (typeof sessions)[number] | undefined) => {
          if (session === undefined || session.isOpen) return;
          session.isOpen = true;
          pacer.told(session);
          session.reader.take(encodeAssignments(session.set.complete()));
        };
        for (const one of steps) {
          switch (one.do) {
            case "route":
            case "no route": {
              const key = `s${one.id}`;
              const name = one.do === "route" ? one.name : undefined;
              shared.setRoute(
                key,
                name === undefined ? undefined : { id: key, serviceName: name, vip: "", ports: [], endpoints: [] },
              );
              break;
            }
            case "node":
              shared.setNode(
                `n${one.id}`,
                makeNode(`n${one.id}`, { description: { ...makeNode("n").description, hostname: one.name } }),
              );
              break;
            case "no node":
              shared.setNode(`n${one.id}`, undefined);
              break;
            case "task": {
              const key = `t${one.id}-${one.reader}`;
              await store.update((tx) => {
                const before: Task | undefined = tx.tasks.get(key);
                if (one.gone && before !== undefined) tx.remove("tasks", key);
                else if (before !== undefined) tx.put("tasks", { ...before, desiredState: TaskState.SHUTDOWN });
                else {
                  const status = { ...makeTask(key).status, state: TaskState.ASSIGNED };
                  tx.create("tasks", makeTask(key, { nodeId: `n${one.reader}`, status }));
                }
              });
              const session = sessions[one.reader];
              session?.set.touchTask(key);
              if (session !== undefined) tell(session);
              break;
            }
            case "time":
              await clock.advance(one.ms);
              break;
            case "open":
              open(sessions[one.reader]);
              break;
            case "stall": {
              const session = sessions[one.reader];
              if (session === undefined) break;
              session.reads = !session.reads;
              // As with a socket that has room again: what was asked for meanwhile is made then.
              tell(session);
              break;
            }
            case "trim":
              shared.trim(Math.min(shared.revision, ...sessions.map(({ set }) => set.sharedRevision)));
              break;
          }
          pacer.changed();
        }
        for (const session of sessions) {
          open(session);
          session.reads = true;
          tell(session);
        }
        await clock.advance(2 * pacer.announceMs + 100);
        for (const { reader: paced, set } of sessions) {
          const fresh = new Reader();
          fresh.take(encodeAssignments(set.complete()));
          expect(paced.state).toEqual(fresh.state);
        }
        expect(clock.nextDueMs).toBeUndefined();
        await store[Symbol.asyncDispose]();
      }),
      { numRuns: 30 },
    );
  });

  it("makes each part once, however many need it", () => {
    const shared = new SharedState();
    shared.setNode("n1", makeNode("n1"));
    const { revision } = shared;
    expect(shared.whole()).toBe(shared.whole());
    shared.setNode("n2", makeNode("n2"));
    expect(shared.since(revision)).toBe(shared.since(revision));
    expect(shared.since(shared.revision).bytes.length).toBe(0);
  });

  it("keeps no more than each item's newest change, and of what is gone nothing that everybody knows", () => {
    const shared = new SharedState();
    const route = (name: string) => ({ id: "s1", serviceName: name, vip: "", ports: [], endpoints: [] });
    for (let i = 0; i < 2_000; i += 1) shared.setRoute("s1", route(String(i)));
    expect(shared.isLong).toBe(true);
    shared.trim(0);
    expect(shared.isLong).toBe(false);
    expect(shared.since(0).changes).toMatchObject([{ item: { value: { serviceName: "1999" } } }]);
    shared.setRoute("s1", undefined);
    expect(shared.since(0).changes).toEqual([{ item: { $case: "removedRouteId", value: "s1" } }]);
    shared.trim(shared.revision);
    expect(shared.since(0).changes).toEqual([]);
    expect(shared.whole().changes).toEqual([]);
  });
});
