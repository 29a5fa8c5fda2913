// Assembles what `docker load` reads: layers, one config per image, manifest.json. A layer that several images name is written
// once. Ids follow from content (image id = SHA-256 of its config, which names the SHA-256 of each layer), so every host that
// loads the archive gets the same ids without a registry. Format: moby's image/spec/v1.2.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createWriteStream, renameSync } from "node:fs";
import { TAR_END, type TarEntry, entryChunks, header, padding, tarChunks, tarSize, textEntry } from "./tar.js";

export interface Layer {
  readonly name: string;
  readonly entries: readonly TarEntry[];
}

/** As in Docker's image config; durations in nanoseconds. */
export interface ImageConfig {
  readonly Cmd?: readonly string[];
  readonly Entrypoint?: readonly string[];
  readonly Env?: readonly string[];
  readonly ExposedPorts?: Readonly<Record<string, Record<string, never>>>;
  readonly Healthcheck?: {
    readonly Test: readonly string[];
    readonly Interval?: number;
    readonly Timeout?: number;
    readonly StartPeriod?: number;
    readonly Retries?: number;
  };
  readonly Labels?: Readonly<Record<string, string>>;
  readonly StopSignal?: string;
}

export interface Image {
  /** `flotilla/demo:1` */
  readonly tag: string;
  readonly layers: readonly Layer[];
  readonly config: ImageConfig;
}

/** Image id by tag: `sha256:…` */
export type ImageIds = Readonly<Record<string, string>>;

/** Writes the archive to `file`, whole or not at all. */
export async function writeArchive(file: string, images: readonly Image[], architecture: string): Promise<ImageIds> {
  const unfinished = `${file}.new`;
  const out = createWriteStream(unfinished, { highWaterMark: 4 * 1024 * 1024 });
  const failed = once(out, "close");
  failed.catch(() => undefined); // Seen by `write` and `end` below; this only keeps an early error from ending the process.
  const write = async (chunk: Buffer): Promise<void> => {
    if (out.errored !== null) throw out.errored;
    if (!out.write(chunk)) await once(out, "drain");
  };
  const diffIds = new Map<Layer, string>();
  for (const layer of new Set(images.flatMap((image) => image.layers))) {
    const hash = createHash("sha256");
    const size = tarSize(layer.entries);
    await write(header({ kind: "file", path: layerPath(layer), mode: 0o644, body: Buffer.alloc(0) }, size));
    for await (const chunk of tarChunks(layer.entries)) {
      hash.update(chunk);
      await write(chunk);
    }
    await write(padding(size));
    diffIds.set(layer, `sha256:${hash.digest("hex")}`);
  }
  const ids: Record<string, string> = {};
  const manifest: object[] = [];
  const written = new Set<string>();
  for (const image of images) {
    const config = configText(image, diffIds, architecture);
    const digest = createHash("sha256").update(config).digest("hex");
    ids[image.tag] = `sha256:${digest}`;
    manifest.push({ Config: `${digest}.json`, RepoTags: [image.tag], Layers: image.layers.map(layerPath) });
    // Two tags of the same image have one config.
    if (written.has(digest)) continue;
    written.add(digest);
    for await (const chunk of entryChunks(textEntry(`${digest}.json`, config))) await write(chunk);
  }
  for await (const chunk of entryChunks(textEntry("manifest.json", JSON.stringify(manifest)))) await write(chunk);
  await write(TAR_END);
  out.end();
  await failed;
  renameSync(unfinished, file);
  return ids;
}

/** The config blob; its bytes make the image's id, so keys stand in a fixed order and there is no time of creation. */
function configText(image: Image, diffIds: ReadonlyMap<Layer, string>, architecture: string): string {
  const epoch = "1970-01-01T00:00:00Z";
  return JSON.stringify({
    architecture,
    os: "linux",
    created: epoch,
    config: image.config,
    rootfs: { type: "layers", diff_ids: image.layers.map((layer) => diffIds.get(layer)) },
    history: image.layers.map((layer) => ({ created: epoch, created_by: `flotilla lab: ${layer.name}` })),
  });
}

function layerPath(layer: Layer): string {
  return `${layer.name}/layer.tar`;
}
