import { defineConfig } from "vitest/config";

// The workspace package raft-ts is tested from its sources.
const ssr = { resolve: { conditions: ["source", "module", "node"], externalConditions: ["source"] } };

export default defineConfig({
  test: {
    projects: [
      {
        ssr,
        test: {
          name: "unit",
          include: ["{proto,lib,manager,agent,discovery,deploy,cli,packaging}/**/*.test.ts"],
          testTimeout: 20_000,
        },
      },
      {
        ssr,
        // The lab has one machine under it: its test files take turns, and share one lab (test/kit/lab.ts).
        test: {
          name: "integration",
          include: ["test/**/*.test.ts"],
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 240_000,
          globalSetup: ["test/kit/global-setup.ts"],
        },
      },
    ],
  },
});
