// Before the integration tests: one lab of three real Docker hosts with a manager and an agent each, shared by all test
// files, which take turns; after them it goes, with every trace. A test that breaks something mends it again.

import type { TestProject } from "vitest/node";
import { Lab } from "../../packaging/lab/mod.js";

/** Its own name: a lab that the user has up stays as it is. */
export const labName = "test";

declare module "vitest" {
  interface ProvidedContext {
    labName: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  await Lab.down(labName);
  await Lab.up({
    name: labName,
    hosts: 3,
    managers: 3,
    hostLabels: { 1: ["zone=a"], 2: ["zone=b"], 3: ["zone=b"] },
    progress: (line) => process.stderr.write(`lab: ${line}\n`),
  });
  project.provide("labName", labName);
  return async () => {
    await Lab.down(labName);
  };
}
