// What a service flag is, and the few forms that all of them have.

import { type ContainerSpec, ServiceSpec, type UpdateConfig } from "../../proto/gen/flotilla/objects/v1/objects.js";
import type { Flag } from "./flag.js";
import type { FlagReader, Parser } from "./reader.js";

type Whole<T> = { [K in keyof T]-?: NonNullable<T[K]> };

/** A spec whose messages are all there, so that flags need not care. */
export type Draft = Omit<ServiceSpec, "task" | "mode" | "update" | "rollback"> & {
  mode: NonNullable<ServiceSpec["mode"]>;
  task: Whole<NonNullable<ServiceSpec["task"]>>;
  update: UpdateConfig;
  rollback: UpdateConfig;
};

export interface Given {
  spec: Draft;
  command: "create" | "update";
  /** False while the service of an update is not known yet: nothing can contradict its mode then. */
  checkMode: boolean;
  flags: FlagReader;
  env: Readonly<Record<string, string | undefined>>;
  /** For what is odd but harmless. */
  note: (text: string) => void;
}

export interface ServiceFlag {
  flag: Flag;
  on: "both" | "create" | "update";
  /** Called when the flag was given. */
  apply: (given: Given) => void;
}

/** The spec before any flag. What stays unset gets the managers' defaults. */
export function emptySpec(): ServiceSpec {
  return ServiceSpec.fromPartial({ mode: { $case: "replicated", value: { replicas: 1 } } });
}

/** A copy of the spec with every message there. */
export function draft(from: ServiceSpec): Draft {
  // Through the wire form: a deep copy that has every message's defaults.
  const spec = ServiceSpec.decode(ServiceSpec.encode(from).finish());
  const whole = ServiceSpec.fromPartial({
    ...spec,
    mode: spec.mode ?? { $case: "replicated", value: { replicas: 1 } },
    task: {
      ...spec.task,
      container: { ...spec.task?.container },
      reservations: { ...spec.task?.reservations },
      limits: { ...spec.task?.limits },
      restart: { ...spec.task?.restart },
      placement: { ...spec.task?.placement },
    },
    update: { ...spec.update },
    rollback: { ...spec.rollback },
  });
  return whole as Draft;
}

/** A flag with one value that goes to one place, the same for both commands. */
export function one<T>(group: string, flag: Flag, parse: Parser<T>, set: (spec: Draft, value: T) => void): ServiceFlag {
  return {
    flag: { ...flag, group },
    on: "both",
    apply({ spec, flags }) {
      const value = flags.get(flag.long, parse);
      if (value !== undefined) set(spec, value);
    },
  };
}

/** `--x` and, for updates, `--no-x`. */
export function toggle(group: string, flag: Flag, set: (spec: Draft, value: boolean) => void): ServiceFlag[] {
  return [
    { flag: { ...flag, group }, on: "both", apply: ({ spec }) => set(spec, true) },
    {
      flag: { long: `no-${flag.long}`, help: `undo --${flag.long}`, group },
      on: "update",
      apply: ({ spec }) => set(spec, false),
    },
  ];
}

/** `--x` for create, `--x-add` and `--x-rm` for update, as Docker's. */
export function many<T>(
  group: string,
  flag: Flag,
  parse: (env: Given["env"]) => Parser<T>,
  removal: { value: string; parse: Parser<string> },
  /** Adding replaces in an update; in a new spec, two equal ones are for the managers to refuse. */
  change: { add(spec: Draft, value: T, replace: boolean): void; remove(spec: Draft, key: string): boolean },
): ServiceFlag[] {
  const add =
    (long: string, replace: boolean) =>
    ({ spec, flags, env }: Given) => {
      for (const value of flags.getAll(long, parse(env))) change.add(spec, value, replace);
    };
  const { short: _, ...withoutShort } = flag;
  return [
    { flag: { ...flag, help: `${flag.help} (repeatable)`, group }, on: "create", apply: add(flag.long, false) },
    // Removals first: --x-rm with --x-add replaces.
    {
      flag: {
        long: `${flag.long}-rm`,
        value: removal.value,
        help: `remove one, by its ${removal.value.toLowerCase()} (repeatable)`,
        group,
      },
      on: "update",
      apply({ spec, flags, note }) {
        for (const key of flags.getAll(`${flag.long}-rm`, removal.parse))
          if (!change.remove(spec, key)) note(`--${flag.long}-rm ${key}: there was none`);
      },
    },
    {
      flag: { ...withoutShort, long: `${flag.long}-add`, help: `add or replace: ${flag.help} (repeatable)`, group },
      on: "update",
      apply: add(`${flag.long}-add`, true),
    },
  ];
}

/** Removes what matches; false when nothing did. */
export function removeFrom<T>(list: T[], matches: (item: T) => boolean): boolean {
  const kept = list.filter((item) => !matches(item));
  const found = kept.length < list.length;
  list.splice(0, list.length, ...kept);
  return found;
}

export function removeKey(map: Record<string, string>, key: string): boolean {
  const found = Object.hasOwn(map, key);
  delete map[key];
  return found;
}

export const container = (spec: Draft): ContainerSpec => spec.task.container;

export const text: Parser<string> = (value) =>
  value.includes("\0") ? { rule: "must not contain a zero byte", fix: "leave it out" } : { ok: value };
