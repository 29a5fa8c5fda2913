// The command line as its users meet it, against a real cluster: what is refused leaves nothing behind, what waits ends
// as documented, and nothing is said to be well that is not.

import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { BUSYBOX_IMAGE, DEMO_IMAGE } from "../../packaging/lab/mod.js";
import { eventually, labCluster } from "../kit/lab.js";
import { startLoad } from "../kit/load.js";

const cluster = labCluster();
const { lab } = cluster;
const demo = `${DEMO_IMAGE}:1`;
const binary = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

/** A word per argument; what has blanks in it is added by hand. */
const words = (text: string) => text.split(" ");

async function create(text: string, ...more: string[]): Promise<void> {
  await cluster.must(...words(`service create --update-monitor 1s --update-min-healthy-time 0s ${text}`), ...more);
}

/** Runs a shell's script with the command as `flotilla`, in the way that npm's link to it is run. */
function shell(script: string): Promise<{ code: number; stdout: string; stderr: string }> {
  const env = { ...process.env, FLOTILLA_HOST: lab.managers.join(","), FLOTILLA: binary };
  return new Promise((resolve) => {
    execFile("bash", ["-c", `flotilla() { "$FLOTILLA" "$@"; }\n${script}`], { env }, (error, stdout, stderr) =>
      resolve({ code: typeof error?.code === "number" ? error.code : 0, stdout, stderr }),
    );
  });
}

afterEach(async () => {
  await cluster.clear();
});

describe("what is refused", () => {
  it("names field, value, rule and fix, ends with the documented code, and leaves nothing behind", async () => {
    await create("--name taken --publish 8093:80", demo);
    const refusals: [args: string, code: number, text: RegExp][] = [
      ["--name x nginx::1", 125, /^error: image: "nginx::1" must have a tag of .*; write for example nginx:1\.27/m],
      ["--name My_Web x", 125, /^error: name: "My_Web" must be 1 to 63 lower-case .*; write for example my-web$/m],
      ["--name x --publish 0:80 x", 125, /^error: --publish: "0:80" .* 1 to 65535; write for example 8080:80/m],
      ["--name x --publish 7400:80 x", 125, /"7400" must not be one of 7400, .*Flotilla's own.*; publish for ex/],
      ["--name x --publish 8080:80 --publish 8080:81 x", 125, /ports\[1\].*"8080" must be unique.*; use another/],
      ["--name x --replicas 10001 x", 125, /^error: --replicas: "10001" must be .* 0 to 10000; write for example 3$/m],
      ["--name x --limit-memory 1q x", 125, /^error: --limit-memory: "1q" must be a size.*; write for example 512m/m],
      ["--name x --reserve-cpu 0.0001 x", 125, /"0\.0001" must be from 0\.001 to 1024 cores.*; use for example 0\.5/],
      ["--name x --constraint node.color==red x", 125, /"node\.color==red" must begin with one of .*node\.hostname/],
      ["--name x --replcas 3 x", 125, /unknown option '--replcas' \(Did you mean --replicas\?\)/],
      ["x", 125, /^error: --name is needed; write for example --name web$/m],
      ["--name taken x", 1, /^error: name: "taken" must not be the name of another service; use another name/m],
      ["--name x --publish 8093:80 x", 1, /"8093" must not be published .*service taken publishes it; publish another/],
    ];
    await Promise.all(
      refusals.map(async ([args, code, text]) => {
        const refused = await cluster.run(["service", "create", "-d", ...words(args)]);
        expect([args, refused.code, refused.stdout]).toEqual([args, code, ""]);
        expect(refused.stderr).toMatch(text);
      }),
    );
    const several = await cluster.run(words("service scale taken=3 nope=2"));
    expect([several.code, several.stderr]).toEqual([1, expect.stringMatching(/no service "nope"/)]);

    const { stdout: names } = await shell("flotilla service ls --format '{{.Name}} {{.Replicas}}'");
    expect(names).toBe("taken 1/1\n");
    expect((await Promise.all(lab.hosts.map((n) => cluster.containers(n)))).flat()).toHaveLength(1);
  });

  it("says who was asked when no manager is there, and why each did not answer", async () => {
    const address = lab.address(1);
    const asked: [host: string, cause: RegExp][] = [
      [`${address}:7999`, /^cause: \S+:7999: .*ECONNREFUSED/m],
      [`${address}:7401`, /^cause: \S+:7401: what listens there is no manager/m],
      // Of the lab's network, and nobody's: packets to it are answered by nobody.
      [address.replace(/\d+$/, "99"), /^cause: \S+\.99:7400: /m],
    ];
    for (const [host, cause] of asked) {
      const { code, stderr } = await cluster.run(["--host", host, "service", "create", "--name", "x", demo]);
      expect([host, code]).toEqual([host, 1]);
      expect(stderr).toMatch(/^error: cannot reach a manager at .* \(from --host\)/m);
      expect(stderr).toMatch(cause);
      expect(stderr).toMatch(/^next: /m);
    }
  });
});

describe("waiting", () => {
  // It runs for a second, and was once taken for well.
  it("does not take a new service for well whose program ends soon after its start", async () => {
    const { code, stderr } = await cluster.run([
      ...words("service create --name broken --replicas 2 --update-monitor 3s --timeout 7s"),
      `${DEMO_IMAGE}:broken`,
    ]);
    expect(code, stderr).toBe(5);
    expect(stderr).toContain("| demo: fatal: database refused the password for user 'demo'");
    expect(stderr).toContain("flotilla rollout status -w --revision 1 broken");
  });

  it("ends with 5 when a health check never passes, and when an image is nowhere, and says why", async () => {
    const [sick, nowhere] = await Promise.all([
      cluster.run([...words("service create --name sick --timeout 8s"), `${DEMO_IMAGE}:sick`]),
      cluster.run([...words("service create --name nowhere --timeout 8s"), "127.0.0.1:9/none:1"]),
    ]);
    expect([sick.code, sick.stderr]).toEqual([5, expect.stringContaining("its health check failed")]);
    expect([nowhere.code, nowhere.stderr]).toEqual([5, expect.stringMatching(/failed: pull 127\.0\.0\.1:9\/none:1/)]);
    expect(nowhere.stderr).not.toContain("it logged nothing");
  });

  it("is left with Ctrl-C, 130 and the command that goes on watching, which ends well", async () => {
    await create("--name web --replicas 2 --update-delay 1s", demo);
    const update = cluster.start(words("service update --force web"));
    await eventually("progress is shown", () => update.output().includes("overall progress"));
    update.signal("SIGINT");
    const { code, stderr } = await update.done;
    expect(code, stderr).toBe(130);
    expect(stderr).toMatch(/^detached from web; the cluster goes on$/m);
    const resume = /flotilla (rollout status .*?) {4}#/.exec(stderr)?.[1] ?? "";
    expect(resume).toBe("rollout status -w --revision 2 web");
    const resumed = await cluster.run(words(resume));
    expect([resumed.code, resumed.stderr]).toEqual([0, expect.stringContaining("verify: service converged")]);
  });

  it("goes on through the loss of every manager", async () => {
    await create("--name web --replicas 3 --update-delay 1s", demo);
    const update = cluster.start(words("service update --force web"));
    await eventually("progress is shown", () => update.output().includes("overall progress"));
    for (const n of lab.hosts) await lab.kill("manager", n);
    await eventually("the loss is said", () => update.output().includes("lost the manager"));
    await Promise.all(lab.hosts.map((n) => lab.start("manager", n)));
    const { code, stderr } = await update.done;
    expect(code, stderr).toBe(0);
    expect(stderr).toContain("a manager answers again");
    expect(await cluster.must(...words("service inspect --format {{.revision}}/{{.converged}} web"))).toBe("2/true\n");
  });

  it("says that somebody else's change or removal took over", async () => {
    await create("--name web --replicas 2 --update-delay 2s", demo);
    const first = cluster.start(words("service update --env-add A=1 web"));
    await eventually("the first is under way", () => first.output().includes("overall progress"));
    const second = cluster.start(words("service update --env-add B=2 --update-delay 0s web"));
    const { code, stderr } = await first.done;
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/web is not what you asked for: revision 3 .* took over/),
    ]);
    expect((await second.done).code).toBe(0);
    // Neither is lost.
    expect(await cluster.must("service", "inspect", "--format", "{{.spec.container.env}}", "web")).toBe(
      '["A=1","B=2"]\n',
    );

    const third = cluster.start(words("service update --force --update-delay 5s web"));
    await eventually("the third is under way", () => third.output().includes("overall progress"));
    await cluster.must("service", "rm", "web");
    const removed = await third.done;
    expect([removed.code, removed.stderr]).toEqual([1, expect.stringContaining("was removed while you waited")]);
    await eventually("web is gone", async () => (await cluster.must("service", "ls", "-q")) === "");
    const again = await cluster.run(words("service rm web"));
    expect([again.code, again.stderr]).toEqual([1, expect.stringContaining('no service "web"')]);
  });
});

describe("nodes under load", () => {
  it("drained: its tasks move without a failed request; with no node left they wait; activated: it takes tasks again", async () => {
    await create("--name web --replicas 3 --publish 8094:80", demo);
    const load = startLoad(lab, 2, `http://${lab.address(3)}:8094/`);
    try {
      await cluster.must("node", "drain", "h1");
      expect(await cluster.containers(1, "web")).toEqual([]);
      await eventually("all three are ready elsewhere", async () => {
        const running = (await Promise.all([2, 3].map((n) => cluster.containers(n, "web")))).flat();
        return running.length === 3;
      });
    } finally {
      await cluster.must("node", "activate", "h1");
    }
    const { failed, errors, ok } = await load.stop();
    expect(errors).toEqual({});
    expect(failed).toBe(0);
    expect(ok).toBeGreaterThan(50);

    try {
      for (const n of lab.hosts) await cluster.must("node", "drain", "-d", `h${n}`);
      const full = await cluster.run(words("service create --name late --timeout 20s flotilla/demo:1"));
      expect([full.code, full.stderr]).toEqual([3, expect.stringMatching(/3 drained/)]);
    } finally {
      for (const n of lab.hosts) await cluster.must("node", "activate", `h${n}`);
    }
    await cluster.must(...words("rollout status -w --timeout 30s late"));
  });
});

describe("looking", () => {
  it("logs come from all hosts, as many as asked for, and `| head` ends them without a word", async () => {
    await create("--name talk --replicas 3", BUSYBOX_IMAGE, "sh", "-c", "seq 1 2000; exec sleep 1000");
    const { stdout } = await cluster.run(words("service logs --tail 2 talk"));
    const lines = stdout.trimEnd().split("\n").sort();
    expect(lines.map((line) => /^talk\.(\d)\.\w+@h\d +\| (\d+)$/.exec(line)?.slice(1).join(" "))).toEqual([
      ...["1 1999", "1 2000", "2 1999", "2 2000", "3 1999", "3 2000"],
    ]);
    expect(new Set(lines.map((line) => /@(h\d)/.exec(line)?.[1])).size).toBe(3);
    const head = await shell('flotilla service logs -f talk | head -2; echo "${PIPESTATUS[*]}"');
    expect(head.stdout.trimEnd().split("\n")).toHaveLength(3);
    expect(head.stdout).toMatch(/\n0 0\n$/);
    expect(head.stderr).toBe("");
  });

  it("completes commands, flags and live names in bash", async () => {
    await create("--name web", demo);
    const { stdout, stderr } = await shell(`
      compopt() { :; }
      source <(flotilla completion bash)
      complete -p flotilla
      try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _flotilla; echo "$COMP_CWORD: \${COMPREPLY[*]}"; }
      try flotilla serv
      try flotilla service up
      try flotilla service update --ima
      try flotilla service update --image x:1 w
      try flotilla service scale w
      try flotilla node drain ""
    `);
    expect(stderr).toBe("");
    expect(stdout.split("\n")).toEqual([
      "complete -F _flotilla flotilla",
      ...["1: service", "2: update", "3: --image", "5: web", "3: web=", "3: h1 h2 h3", ""],
    ]);
  });

  // Node 20 takes an --env-file anywhere on its command line as its own.
  it("reads --env-file itself", async () => {
    const folder = await mkdtemp(join(tmpdir(), "flotilla-cli-"));
    try {
      const file = join(folder, "web.env");
      const missing = await shell(`flotilla service create -d --name web --env-file '${file}' ${demo}`);
      expect([missing.code, missing.stderr]).toEqual([125, expect.stringMatching(/^error: --env-file: .*ENOENT/)]);
      await writeFile(file, "# settings\nLEVEL=debug\nMINE=x\n");
      const made = await shell(`flotilla service create -d --name web --env-file '${file}' ${demo}`);
      expect([made.code, made.stderr]).toEqual([0, ""]);
      const env = await cluster.must("service", "inspect", "--format", "{{json .spec.container.env}}", "web");
      expect(env).toBe('["LEVEL=debug","MINE=x"]\n');
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
