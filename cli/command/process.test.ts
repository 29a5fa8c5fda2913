import { describe, expect, it } from "vitest";
import { ClusterError } from "../../lib/errors.js";
import { FakeIo } from "../../test/kit/cli/io.js";
import { settle } from "../../test/kit/clock.js";
import { fakeProcesses as fake, optionsOf as options, refused } from "../../test/kit/cli/processes.js";
import { run } from "../program.js";

describe("flotilla agent", () => {
  it("takes its flags, and starts ambassadors of the same program", async () => {
    const given = await options(
      "agent",
      "--managers",
      "10.0.0.1,10.0.0.2:7500",
      "--hostname",
      "h1",
      "--advertise-addr",
      "10.0.0.3",
      "--docker",
      "unix:///d.sock",
      "--label",
      "zone=eu",
      "-l",
      "disk=ssd",
      "--generic-resource",
      "gpu=2",
      "--data-dir",
      "/d",
    );
    expect(given).toMatchObject({
      dataDir: "/d",
      managers: ["10.0.0.1:7400", "10.0.0.2:7500"],
      hostname: "h1",
      advertiseAddr: "10.0.0.3",
      docker: "unix:///d.sock",
      httpListen: "127.0.0.1:7402",
      labels: { zone: "eu", disk: "ssd" },
      generic: { gpu: 2 },
      logLevel: "info",
    });
    const [node, main, command] = given["ambassadorCommand"] as string[];
    expect([node, command]).toEqual([process.execPath, "ambassador"]);
    expect(given["managerCommand"]).toEqual([node, main, "manager"]);
    expect(main).toMatch(/\/cli\/main\.js$/);
  });

  it("refuses what cannot be", async () => {
    const text = await refused(
      "agent",
      "--hostname",
      "-x",
      "--advertise-addr",
      "300.1.1.1",
      "--docker",
      "tcp://x:1",
      "--label",
      "=x",
    );
    for (const field of ["--managers", "--hostname", "--advertise-addr", "--docker", "--label"])
      expect(text).toMatch(new RegExp(`^error: ${field}:? `, "m"));
  });
});

describe("flotilla ambassador", () => {
  it("takes its flags", async () => {
    expect(await options("ambassador", "--data-dir", "/d")).toEqual({ dataDir: "/d", logLevel: "info" });
    expect(await options("ambassador", "--http-listen", "127.0.0.1:7403")).toMatchObject({
      httpListen: "127.0.0.1:7403",
    });
  });
});

describe("signals", () => {
  it("the first asks, the second ends at once", async () => {
    const io = new FakeIo();
    const { processes, started } = fake(true);
    void run(["ambassador"], io, { processes });
    while (started.length === 0) await settle();
    io.stop("SIGTERM");
    expect(started[0]?.signal.aborted).toBe(true);
    expect(io.left).toEqual([]);
    io.stop("SIGINT");
    io.stop("SIGTERM");
    expect(io.left).toEqual([130, 143]);
  });

  it("a process that fails to start says why, and ends with 1", async () => {
    const io = new FakeIo();
    const { processes } = fake();
    const broken = {
      ...processes,
      manager: () =>
        Promise.reject(Object.assign(new Error("listen EADDRINUSE 127.0.0.1:7400"), { syscall: "listen" })),
    };
    expect(await run(["manager", "--store", "memory"], io, { processes: broken })).toBe(1);
    expect(io.stderr).toContain("listen EADDRINUSE 127.0.0.1:7400");
  });

  it("a port that is taken is no matter of the managers", async () => {
    const io = new FakeIo();
    const { processes } = fake();
    const taken = new ClusterError("unavailable", "--listen 127.0.0.1:7400: in use");
    const broken = { ...processes, manager: () => Promise.reject(taken) };
    expect(await run(["manager", "--store", "memory"], io, { processes: broken })).toBe(1);
    expect(io.stderr).toBe("error: --listen 127.0.0.1:7400: in use\n");
  });
});
