import { describe, expect, it } from "vitest";
import { UsageError } from "../exit.js";
import { hostArgument, hostLabels, oneOf, wholeNumber, words } from "./input.js";

const lab = { name: "default", hosts: [1, 2, 3] };
const violation = (work: () => unknown) => {
  try {
    work();
  } catch (error) {
    expect(error).toBeInstanceOf(UsageError);
    return (error as UsageError).violations[0];
  }
  throw new Error("it was accepted");
};

describe("input of flotilla lab", () => {
  it("takes a host as 2 or h2", () => {
    expect(hostArgument(lab, "2")).toBe(2);
    expect(hostArgument(lab, "h3")).toBe(3);
  });

  it.each(["0", "4", "h", "-1", "1.5", "", "2 "])("refuses the host %j", (text) => {
    expect(violation(() => hostArgument(lab, text))).toMatchObject({
      field: "host",
      value: text,
      rule: expect.stringContaining("1 to 3") as string,
    });
  });

  it.each(["", "x", "1e1", "-1", "0x2", "99"])("refuses the number %j", (text) => {
    expect(violation(() => wholeNumber("hosts", text, 1, 32))).toMatchObject({ field: "--hosts", value: text });
  });

  it("names what is allowed", () => {
    expect(oneOf("store", "raft", ["etcd", "raft"])).toBe("raft");
    expect(violation(() => oneOf("store", "zk", ["etcd", "raft"]))?.rule).toBe("must be one of etcd, raft");
    expect(words("images", "demo, busybox", ["busybox", "demo"])).toEqual(["demo", "busybox"]);
    expect(words("images", "none", ["busybox", "demo"])).toEqual([]);
  });

  it("sorts labels to all hosts or to one", () => {
    expect(hostLabels(["zone=a", "2:zone=b", "h3:disk=ssd", "2:x=y:z"], 3)).toEqual({
      everywhere: ["zone=a"],
      byHost: { 2: ["zone=b", "x=y:z"], 3: ["disk=ssd"] },
    });
    expect(violation(() => hostLabels(["4:zone=a"], 3))?.value).toBe("4:zone=a");
  });
});
