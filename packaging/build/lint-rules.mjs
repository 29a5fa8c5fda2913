// The linter's configuration, made from tables: who may import whom, which dangerous package has which one room, and
// where time, randomness and console output come from. A table is read more easily than the JSON it becomes.

/** Project folders that the files of a folder may import, besides their own. */
const mayImport = {
  lib: [],
  proto: ["lib"],
  deploy: ["lib", "proto"],
  discovery: ["lib", "proto"],
  manager: ["lib", "proto", "deploy", "discovery"],
  agent: ["lib", "proto", "deploy", "discovery"],
  packaging: ["lib", "cli"],
  cli: ["lib", "proto", "deploy", "discovery", "manager", "agent", "packaging"],
  bench: ["lib", "proto", "deploy", "discovery", "manager", "agent", "packaging", "cli"],
};
const folders = [...Object.keys(mayImport), "test"];

/** Packages with one room. */
const rooms = { dockerode: "agent/engine/docker", etcd3: "manager/store/etcd" };

/** Rooms without I/O: time, randomness and everything else come as arguments. */
const pure = [
  "manager/scheduler",
  "deploy/strategy",
  "deploy/judge",
  "manager/raft/core",
  "manager/raft/driver",
  "manager/raft/wal",
  "manager/raft/wire",
];

/** Rooms where time and console may be used directly. */
const edges = [
  "lib/**",
  "cli/**",
  "packaging/**",
  "bench/**",
  "test/**",
  "examples/**",
  "manager/raft/example/**",
  "**/*.test.ts",
  "**/*.mjs",
  "vitest.config.ts",
];

const nothingMore = { patterns: [] };

function importRules(folder, extra = []) {
  const forbidden = folders.filter((other) => other !== folder && !mayImport[folder].includes(other));
  const patterns = [
    ...forbidden.map((other) => ({
      regex: `^(\\.\\./)+${other}/`,
      message: `${folder} may import ${mayImport[folder].join(", ") || "nothing of the project"}; see docs/ARCHITECTURE.md, "Direction".`,
    })),
    ...extra,
  ];
  return patterns.length === 0 ? nothingMore : { patterns };
}

const inOtherRooms = (room) =>
  Object.entries(rooms)
    .filter(([, home]) => home !== room)
    .map(([name, home]) => ({ regex: `^${name}$`, message: `${name} is used in ${home} only.` }));

const override = (files, rules, excluded) => ({ files, ...(excluded ? { excludeFiles: excluded } : {}), rules });

export const lintConfig = {
  plugins: ["typescript", "import", "unicorn", "oxc", "promise"],
  categories: { correctness: "error", suspicious: "error" },
  ignorePatterns: ["dist", "proto/gen", "node_modules", "coverage"],
  rules: {
    "no-console": "error",
    "import/no-cycle": "error",
    "typescript/no-floating-promises": "error",
    "typescript/no-misused-promises": "error",
    "typescript/no-explicit-any": "error",
    "typescript/no-non-null-assertion": "error",
    "typescript/switch-exhaustiveness-check": "error",
    "no-restricted-globals": [
      "error",
      ...["setTimeout", "setInterval"].map((name) => ({
        name,
        message: "Time comes from lib's Clock, as an argument.",
      })),
    ],
    "no-restricted-properties": [
      "error",
      { object: "Date", property: "now", message: "Time comes from lib's Clock, as an argument." },
      { object: "performance", property: "now", message: "Time comes from lib's Clock, as an argument." },
      { object: "Math", property: "random", message: "Randomness comes from lib's Rng, as an argument." },
    ],
    // `await` in order is what a loop over steps means here, and shadowed one-letter names in callbacks harm nobody.
    "no-await-in-loop": "off",
    "no-shadow": "off",
    // A gauge registers itself where it is made; a copy is what one walks over while the original changes.
    "no-new": "off",
    "unicorn/no-useless-spread": "off",
    "no-underscore-dangle": "off",
    "import/no-unassigned-import": "off",
    "unicorn/no-array-sort": "off",
    "unicorn/no-array-reverse": "off",
    "promise/always-return": "off",
    "promise/no-callback-in-promise": "off",
    "unicorn/consistent-function-scoping": "off",
    "promise/no-multiple-resolved": "off",
    "typescript/no-unsafe-type-assertion": "off",
    "typescript/consistent-return": "off",
  },
  overrides: [
    ...Object.keys(mayImport).map((folder) =>
      override([`${folder}/**/*.ts`], { "no-restricted-imports": ["error", importRules(folder, inOtherRooms())] }, [
        "**/*.test.ts",
      ]),
    ),
    ...Object.values(rooms).map((room) =>
      override(
        [`${room}/**/*.ts`],
        { "no-restricted-imports": ["error", importRules(room.split("/")[0], inOtherRooms(room))] },
        ["**/*.test.ts"],
      ),
    ),
    ...pure.map((room) =>
      override(
        [`${room}/**/*.ts`],
        {
          "no-restricted-imports": [
            "error",
            importRules(room.split("/")[0], [
              ...inOtherRooms(),
              { regex: "^node:", message: `${room} does no I/O: pass in what it needs.` },
            ]),
          ],
        },
        ["**/*.test.ts"],
      ),
    ),
    override(edges, { "no-console": "off", "no-restricted-globals": "off", "no-restricted-properties": "off" }),
    override(["**/*.test.ts", "test/**/*.ts"], {
      "typescript/no-non-null-assertion": "off",
      "typescript/unbound-method": "off",
    }),
  ],
};
