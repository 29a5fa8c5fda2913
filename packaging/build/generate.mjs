// Generates proto/gen from proto/*.proto with buf and ts-proto, and .oxlintrc.json from lint-rules.mjs; --check fails
// when the committed files are not what their sources give. Plain JavaScript: it runs before anything is compiled.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { lintConfig } from "./lint-rules.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const protoDir = join(root, "proto");
const committed = join(protoDir, "gen");
const lintFile = join(root, ".oxlintrc.json");
const lintText = `${JSON.stringify(lintConfig, null, 2)}\n`;
const options = [
  "outputServices=grpc-js",
  "oneof=unions-value",
  "enumsAsLiterals=true",
  "removeEnumPrefix=true",
  "forceLong=number",
  "useOptionals=none",
  "unknownFields=true",
  "unrecognizedEnum=false",
  "outputJsonMethods=false",
  "importSuffix=.js",
  "esModuleInterop=true",
  "env=node",
];

function generateInto(out) {
  const template = {
    version: "v2",
    plugins: [{ local: join(root, "node_modules/.bin/protoc-gen-ts_proto"), out, opt: options, strategy: "all" }],
  };
  const run = (args) => {
    const done = spawnSync(join(root, "node_modules/.bin/buf"), args, { cwd: protoDir, stdio: "inherit" });
    if (done.status !== 0) process.exit(done.status ?? 1);
  };
  run(["lint", "."]);
  run(["generate", ".", "--template", JSON.stringify(template)]);
}

function listing(dir, prefix = "") {
  return readdirSync(join(dir, prefix))
    .flatMap((name) => {
      const path = join(prefix, name);
      return statSync(join(dir, path)).isDirectory() ? listing(dir, path) : [path];
    })
    .sort((a, b) => (a < b ? -1 : 1));
}

if (process.argv.includes("--check")) {
  const fresh = mkdtempSync(join(root, "node_modules/.generate-"));
  try {
    generateInto(fresh);
    const wanted = listing(fresh);
    const found = listing(committed);
    const stale = [
      ...wanted.filter(
        (path) => !found.includes(path) || !readFileSync(join(fresh, path)).equals(readFileSync(join(committed, path))),
      ),
      ...found.filter((path) => !wanted.includes(path)),
    ];
    if (stale.length > 0) {
      console.error(`proto/gen is not what proto/*.proto give: ${stale.join(", ")}. Run: npm run generate`);
      process.exitCode = 1;
    }
    if (readFileSync(lintFile, "utf8") !== lintText) {
      console.error(".oxlintrc.json is not what packaging/build/lint-rules.mjs gives. Run: npm run generate");
      process.exitCode = 1;
    } else console.error("proto/gen and .oxlintrc.json are current");
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
} else {
  rmSync(committed, { recursive: true, force: true });
  generateInto(committed);
  writeFileSync(lintFile, lintText);
}
