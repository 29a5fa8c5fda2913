// Whole command lines, against a real gRPC server on loopback.

import { describe, expect, it } from "vitest";
import { ClusterError } from "../lib/errors.js";
import { TaskState } from "../proto/gen/flotilla/objects/v1/objects.js";
import { FakeIo } from "../test/kit/cli/io.js";
import { ends, line, two } from "../test/kit/cli/line.js";
import { clusterStatus } from "../test/kit/cli/managers.js";
import { type Answers, FakeControl } from "../test/kit/cli/server.js";
import { node, state, task } from "../test/kit/cli/states.js";
import { candidates } from "./command/completion.js";
import { leaves } from "./command/leaf.js";
import { lazyOffline, lazyProcesses } from "./processes.js";
import { branches, newProgram, populate, run } from "./program.js";

describe("the command line itself", () => {
  it.each([
    [["servce", "ls"], "error: unknown command 'servce' (Did you mean service?)\nSee 'flotilla --help'.\n"],
    [["service", "lss"], "error: unknown command 'lss' (Did you mean ls?)\nSee 'flotilla service --help'.\n"],
    [
      ["service", "ls", "--quite"],
      "error: unknown option '--quite' (Did you mean --quiet?)\nSee 'flotilla service ls --help'.\n",
    ],
    [["service", "create"], "error: missing required argument 'IMAGE'\nSee 'flotilla service create --help'.\n"],
    [
      ["service", "ls", "x"],
      "error: too many arguments for 'ls'. Expected 0 arguments but got 1. See 'flotilla service ls --help'.\n",
    ],
    [["--host"], "error: option '-H, --host <ADDRESS:7400[,…]>' argument missing\nSee 'flotilla --help'.\n"],
    [
      ["--host", "a:b:c", "service", "ls"],
      'error: --host: "a:b:c" has "a:b:c", which must be HOST:PORT or HOST, the port at most 65535; write for example 10.0.0.1:7400, or [fd00::1]:7400 for IPv6\nSee \'flotilla service ls --help\'.\n',
    ],
    [
      ["completion", "tcsh"],
      "error: SHELL: \"tcsh\" must be bash, zsh or fish; write for example flotilla completion bash\nSee 'flotilla completion --help'.\n",
    ],
  ])("%j is refused with 125", async (words, text) => {
    const { exit, err, out } = await line(words);
    expect({ exit, out, err: err.replace("1.\nSee", "1. See") }).toEqual({ exit: 125, out: "", err: text });
  });

  it("global flags stand anywhere, the last one counts", async () => {
    const answers: Answers = { listServices: () => ({ services: [] }) };
    const fake = await FakeControl.start(answers);
    ends.push(() => fake.kill());
    for (const words of [
      ["--host", fake.address, "service", "ls", "--json"],
      ["--json", "-H", "127.0.0.1:1", "service", "ls", "--host", fake.address],
    ]) {
      const io = new FakeIo();
      expect([await run(words, io), io.stdout]).toEqual([0, "[]\n"]);
    }
  });

  it("help is on standard output, with examples, under a screen for the whole", async () => {
    const io = new FakeIo();
    expect(await run(["--help"], io)).toBe(0);
    expect(io.stdout.split("\n").length).toBeLessThanOrEqual(40);
    for (const { name, hidden } of branches) expect(io.stdout.includes(`  ${name} `), name).toBe(hidden !== true);
    const bare = new FakeIo();
    expect([await run([], bare), bare.stdout]).toEqual([0, io.stdout]);
    const group = new FakeIo();
    expect(await run(["help", "service", "create"], group)).toBe(0);
    expect(group.stdout).toContain("Examples:\n  flotilla service create --name web");
  });

  it("takes the forms that other programs have", async () => {
    for (const [words, same] of [
      [["--version"], ["version"]],
      [["-v"], ["version"]],
      [
        ["service", "help", "create"],
        ["service", "create", "--help"],
      ],
      [
        ["node", "help"],
        ["help", "node"],
      ],
    ]) {
      const [one, other] = [new FakeIo(), new FakeIo()];
      expect(await run(words ?? [], one)).toBe(0);
      await run(same ?? [], other);
      expect(one.stdout).toBe(other.stdout);
      expect(one.stdout).not.toBe("");
    }
  });

  it("the help of an update names no defaults: what is not named stays", async () => {
    const [update, create] = [new FakeIo(), new FakeIo()];
    await run(["service", "update", "--help"], update);
    await run(["service", "create", "--help"], create);
    expect(create.stdout).toContain("(default stop-first)");
    expect(update.stdout).not.toContain("(default stop-first)");
  });

  it("the help fits a narrow terminal, but for examples that are to be copied", async () => {
    for (const words of [
      ["service", "create"],
      ["service", "update"],
      ["service", "plan"],
      ["cluster", "update"],
      ["node", "drain"],
      ["node", "lost"],
      ["task", "why"],
    ]) {
      const io = new FakeIo();
      io.outTty = true;
      io.width = 64;
      expect(await run([...words, "--help"], io)).toBe(0);
      const [before = ""] = io.stdout.split("\nExamples:");
      const wide = before.split("\n").filter((text) => text.length > 64);
      // What cannot be broken may stand out: a flag's own name and value.
      expect(wide.filter((text) => !/^ {2}-/.test(text) && text.trim().includes(" "))).toEqual([]);
      expect(io.stdout).toContain("\nExamples:\n");
    }
  });

  it("the help groups what belongs together", async () => {
    const io = new FakeIo();
    await run(["service", "create", "--help"], io);
    const groups = io.stdout.split("\n").filter((text) => /^[A-Z].*:$/.test(text));
    expect(groups).toEqual([
      "What runs:",
      "How many, and when:",
      "How it is reached:",
      "Where it runs:",
      "Health, stop and restart:",
      "Updates:",
      "Rollbacks:",
      "Planning:",
      "Waiting:",
      "Global options:",
      "Options:",
      "Examples:",
    ]);
    const group = io.stdout.slice(io.stdout.indexOf("How many, and when:"), io.stdout.indexOf("How it is reached:"));
    expect(group).toMatchSnapshot();
  });

  it("every command has a description and an example that names it", async () => {
    const io = new FakeIo();
    const cli = {
      io,
      processes: lazyProcesses,
      offline: lazyOffline,
      globals: new Map<string, string[]>(),
      exit: 0 as const,
    };
    const program = newProgram(cli);
    await populate(program, cli, "all");
    const walk = (command: typeof program): (typeof program)[] => [command, ...command.commands.flatMap(walk)];
    let seen = 0;
    for (const command of walk(program)) {
      const leaf = leaves.get(command);
      expect(command.description(), command.name()).not.toBe("");
      if (leaf === undefined || leaf.hidden === true) continue;
      seen += 1;
      const full = `${command.parent === program ? "" : `${command.parent?.name()} `}${leaf.name}`;
      expect(
        leaf.examples.some((text) => text.includes(`flotilla ${full}`)),
        full,
      ).toBe(true);
    }
    expect(seen).toBeGreaterThan(20);
  });

  it("version asks nobody, unless it is told to", async () => {
    const alone = await line(["version", "--json"]);
    expect(JSON.parse(alone.out)).toMatchObject({
      client: { version: expect.stringMatching(/^\d+\.\d+\.\d+/) as string },
    });
    expect(alone.fake.asked).toEqual([]);
    const both = await line(["version", "--server"], {
      getVersion: () => ({ version: "9.9.9", cluster: "c\u001b[2J", store: "etcd" }),
    });
    expect(both.out).toContain("Server:\n Version:  9.9.9\n Cluster:  c\n Store:    etcd\n");
  });

  it("shows what went wrong first, not what went wrong while things were closed after it", async () => {
    const { err } = await line(["service", "ls"], { listServices: () => ({ services: [] }) }, (io) => {
      io.out = () => {
        const closing = Object.assign(new Error(""), {
          name: "SuppressedError",
          error: new Error("not closed"),
          suppressed: new ClusterError("unavailable", "nobody there"),
        });
        throw closing;
      };
    });
    expect(err).toBe("error: nobody there\nnext: flotilla cluster status    # how the managers are; then try again\n");
  });

  it("a failure that nobody foresaw is called one", async () => {
    const { exit, err } = await line(["service", "ls"], { listServices: () => ({ services: [] }) }, (io) => {
      io.out = () => {
        throw new TypeError("surprise");
      };
    });
    expect(exit).toBe(1);
    expect(err).toMatch(/^error: this should not have happened: surprise\n/);
  });
});

describe("completion", () => {
  const answers: Answers = {
    listServices: () => ({ services: [state({})] }),
    listNodes: () => ({ nodes: [node("h1"), node("h2")] }),
    getClusterStatus: () => clusterStatus(),
    listTasks: () => ({ tasks: [...two, task({ slot: 3, state: TaskState.FAILED })], nodeNames: {} }),
  };
  const complete = async (...words: string[]) =>
    (await line(["__complete", "--", ...words], answers)).out.split("\n").filter((word) => word !== "");

  it("knows commands, flags and values", async () => {
    expect(await complete("ser")).toEqual(["service"]);
    expect(await complete("service", "r")).toEqual(["rebalance", "rm", "rollback", "run"]);
    expect(await complete("service", "create", "--mode", "g")).toEqual(["global", "global-job"]);
    expect(await complete("service", "create", "--cron-concurrency", "")).toEqual(["allow", "forbid", "replace"]);
    expect(await complete("service", "create", "--anti")).toEqual(["--anti-affinity"]);
    expect(await complete("service", "update", "--no-auto")).toEqual(["--no-autoscale"]);
    expect(await complete("cluster", "update", "--preemption", "--lost")).toEqual(["--lost-after"]);
    expect(await complete("cluster", "update", "--preemption=")).toEqual(["--preemption=off", "--preemption=on"]);
    expect(await complete("service", "create", "--update-o")).toEqual(["--update-order"]);
    expect(await complete("service", "create", "--update-order", "")).toEqual(["start-first", "stop-first"]);
    expect(await complete("service", "create", "--update-order=st")).toEqual([
      "--update-order=start-first",
      "--update-order=stop-first",
    ]);
    expect(await complete("lab", "u")).toEqual(["up"]);
    expect(await complete("")).not.toContain("__complete");
  });

  it("knows live names, where they belong", async () => {
    expect(await complete("service", "ps", "w")).toEqual(["web"]);
    expect(await complete("service", "scale", "")).toEqual(["web="]);
    expect(await complete("service", "update", "--image", "x", "")).toEqual(["web"]);
    expect(await complete("service", "update", "web", "")).toEqual([]);
    expect(await complete("node", "drain", "")).toEqual(["h1", "h2"]);
    expect(await complete("node", "lost", "h1", "")).toEqual(["h1", "h2"]);
    expect(await complete("service", "plan", "w")).toEqual(["web"]);
    expect(await complete("service", "create", "--depends-on", "")).toEqual(["web"]);
    expect(await complete("task", "why", "web.")).toEqual(["web.1", "web.2"]);
    expect(await complete("node", "promote", "h1", "")).toEqual(["h1", "h2"]);
    expect(await complete("cluster", "leave", "")).toEqual(["h1", "h2", "h3"]);
    expect(await complete("cluster", "init", "--store", "")).toEqual(["etcd", "raft"]);
    expect(await complete("service", "create", "nginx", "--")).toEqual([]);
  });

  it("is silent when no manager answers", async () => {
    const { exit, out, err } = await line(["__complete", "--", "service", "ps", ""], {}, (io) => {
      io.env = { FLOTILLA_HOST: "127.0.0.1:1" };
    });
    expect([exit, out, err]).toEqual([0, "", ""]);
  });

  it("prints a script for each shell that asks for what comes next", async () => {
    for (const shell of ["bash", "zsh", "fish"])
      expect((await line(["completion", shell])).out).toContain("flotilla __complete --");
  });

  it("does not offer names of another kind", async () => {
    const io = new FakeIo();
    const cli = {
      io,
      processes: lazyProcesses,
      offline: lazyOffline,
      globals: new Map<string, string[]>(),
      exit: 0 as const,
    };
    const program = newProgram(cli);
    await populate(program, cli, "all");
    const asked: string[] = [];
    await candidates(program, ["node", "ps", ""], async (what) => {
      asked.push(what);
      return await Promise.resolve(["x\u001b[2J"]);
    });
    expect(asked).toEqual(["nodes"]);
  });
});
