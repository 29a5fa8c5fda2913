import { expect, test } from "vitest";
import { parseImage } from "./mod.js";

const digest = `sha256:${"0123456789abcdef".repeat(4)}`;

test.each([
  ["busybox", { registry: "docker.io", path: "library/busybox", tag: "latest", digest: "" }],
  ["nginx:1.27", { registry: "docker.io", path: "library/nginx", tag: "1.27", digest: "" }],
  ["team/web", { registry: "docker.io", path: "team/web", tag: "latest", digest: "" }],
  ["docker.io/busybox", { registry: "docker.io", path: "library/busybox", tag: "latest", digest: "" }],
  ["localhost/web:a", { registry: "localhost", path: "web", tag: "a", digest: "" }],
  ["r.example.com:5000/a/b:v1.0", { registry: "r.example.com:5000", path: "a/b", tag: "v1.0", digest: "" }],
  ["[::1]:5000/web", { registry: "[::1]:5000", path: "web", tag: "latest", digest: "" }],
  [`web@${digest}`, { registry: "docker.io", path: "library/web", tag: "", digest }],
  [`web:1@${digest}`, { registry: "docker.io", path: "library/web", tag: "1", digest }],
  ["a__b/c-d--e.f", { registry: "docker.io", path: "a__b/c-d--e.f", tag: "latest", digest: "" }],
])("%s is read as Docker reads it", (text, image) => {
  expect(parseImage(text)).toEqual({ image });
});

test.each([
  ["", /must name an image/, /nginx/],
  ["Nginx:1", /lower-case/, /write nginx:1/],
  ["nginx:", /tag/, /write nginx for/],
  ["nginx:-x", /tag/, /nginx/],
  [`nginx:${"a".repeat(129)}`, /tag/, /nginx/],
  ["a b", /white space/, /nginx/],
  ["https://r.io/web", /scheme/, /write r\.io\/web/],
  ["web@sha256:abc", /digest/, /docker image inspect/],
  ["web@md5:abc", /digest/, /docker image inspect/],
  ["r.io:99999/web", /port/, /5000/],
  ["-r.io/web", /host name/, /nginx/],
  ["a//b", /between slashes/, /nginx/],
  ["a/_b", /between slashes/, /nginx/],
  ["r.io/", /name an image/, /nginx/],
  ["0123456789abcdef".repeat(4), /image's id/, /sha256/],
  [`r.io/${"a".repeat(300)}`, /255/, /shorter/],
  ["a".repeat(600), /512/, /shorter/],
])("%s is refused with rule and fix", (text, rule, fix) => {
  const parsed = parseImage(text);
  expect(parsed).toMatchObject({ rule: expect.stringMatching(rule), fix: expect.stringMatching(fix) });
});
