import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Image, type Layer, writeArchive } from "./archive.js";
import { type TarEntry, fileEntry, tarChunks, tarSize, textEntry } from "./tar.js";

let dir = "";
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "archive-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

async function bytes(entries: readonly TarEntry[]): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of tarChunks(entries)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

describe("tar", () => {
  it("writes what tar reads: files, folders, links, modes", async () => {
    const source = join(dir, "source");
    writeFileSync(source, "x".repeat(1000));
    const entries: TarEntry[] = [
      { kind: "folder", path: "a", mode: 0o755 },
      textEntry("a/text", "hello\n"),
      fileEntry("a/program", source, 0o755),
      { kind: "link", path: "a/other", target: "program" },
    ];
    const archive = await bytes(entries);
    expect(archive.length).toBe(tarSize(entries));
    writeFileSync(join(dir, "x.tar"), archive);
    const listed = execFileSync("tar", ["-tvf", join(dir, "x.tar")], { encoding: "utf8" });
    expect(listed).toMatch(
      /^drwxr-xr-x .* a\/\n-rw-r--r-- .* 6 .* a\/text\n-rwxr-xr-x .* 1000 .* a\/program\nlrwxrwxrwx .* a\/other -> program\n$/,
    );
    execFileSync("tar", ["-xf", join(dir, "x.tar"), "-C", dir]);
    expect(readFileSync(join(dir, "a/other"), "utf8")).toBe("x".repeat(1000));
  });

  it("refuses a path that the format cannot hold, instead of cutting it", async () => {
    await expect(bytes([textEntry("a/".repeat(60), "")])).rejects.toThrow("more than 100 bytes");
  });

  it("notices a file that grew after its size was taken", async () => {
    const source = join(dir, "source");
    writeFileSync(source, "12");
    const entry = fileEntry("f", source);
    writeFileSync(source, "1234");
    await expect(bytes([entry])).rejects.toThrow("changed while it was read");
  });
});

describe("writeArchive", () => {
  const layer = (name: string, text: string): Layer => ({ name, entries: [textEntry("file", text)] });
  const image = (tag: string, layers: readonly Layer[], version: string): Image => ({
    tag,
    layers,
    config: { Env: [`V=${version}`] },
  });
  const unpack = (file: string, path: string): Buffer => execFileSync("tar", ["-xOf", file, path]);

  it("gives the same bytes and ids whenever it is made", async () => {
    const make = (file: string) => writeArchive(join(dir, file), [image("a:1", [layer("one", "1")], "1")], "amd64");
    const [first, second] = [await make("1.tar"), await make("2.tar")];
    expect(second).toEqual(first);
    expect(readFileSync(join(dir, "2.tar")).equals(readFileSync(join(dir, "1.tar")))).toBe(true);
  });

  it("names each config by its digest and each layer in it by its own", async () => {
    const [base, app] = [layer("base", "b"), layer("app", "a")];
    const file = join(dir, "x.tar");
    const ids = await writeArchive(file, [image("a:1", [base, app], "1")], "amd64");
    const [entry] = JSON.parse(unpack(file, "manifest.json").toString()) as [
      { Config: string; RepoTags: string[]; Layers: string[] },
    ];
    const config = unpack(file, entry.Config);
    expect(ids["a:1"]).toBe(`sha256:${createHash("sha256").update(config).digest("hex")}`);
    expect(entry.RepoTags).toEqual(["a:1"]);
    const digests = entry.Layers.map(
      (path) => `sha256:${createHash("sha256").update(unpack(file, path)).digest("hex")}`,
    );
    expect((JSON.parse(config.toString()) as { rootfs: { diff_ids: string[] } }).rootfs.diff_ids).toEqual(digests);
  });

  it("writes a shared layer once, and other settings make another image", async () => {
    const base = layer("base", "b");
    const file = join(dir, "x.tar");
    const ids = await writeArchive(
      file,
      [image("a:1", [base], "1"), image("a:2", [base], "2"), image("a:same", [base], "1")],
      "amd64",
    );
    const listed = execFileSync("tar", ["-tf", file], { encoding: "utf8" }).trim().split("\n");
    expect(listed.filter((path) => path === "base/layer.tar")).toHaveLength(1);
    expect(listed.filter((path) => path.endsWith(".json"))).toHaveLength(3);
    expect(ids["a:2"]).not.toBe(ids["a:1"]);
    expect(ids["a:same"]).toBe(ids["a:1"]);
  });

  it("fails, and leaves no archive, where a source cannot be read", async () => {
    const entry: TarEntry = { kind: "file", path: "f", mode: 0o644, body: { file: join(dir, "absent"), size: 3 } };
    const broken: Image = { tag: "a:1", layers: [{ name: "l", entries: [entry] }], config: {} };
    await expect(writeArchive(join(dir, "x.tar"), [broken], "amd64")).rejects.toThrow("ENOENT");
    await expect(writeArchive(join(dir, "no", "x.tar"), [], "amd64")).rejects.toThrow("ENOENT");
    expect(() => readFileSync(join(dir, "x.tar"))).toThrow("ENOENT");
  });
});
