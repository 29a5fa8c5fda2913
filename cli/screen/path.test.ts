import { describe, expect, it } from "vitest";
import { UsageError } from "../exit.js";
import { parsePaths } from "./path.js";

const web = { name: "web", replicas: { running: 2 }, spec: { ports: [{ target: 80 }], env: ["A=\u001b[1m"] } };

describe("templates over an object", () => {
  it.each([
    ["{{.name}}: {{ .replicas.running }}", "web: 2"],
    ["{{.Name}}\\t{{.Spec.Ports.0.Target}}", "web\t80"],
    ["{{json .spec.ports}}", '[{"target":80}]'],
    ["{{.spec.ports}}", '[{"target":80}]'],
    ["{{json .name}}", '"web"'],
    ["{{json .replicas}}", '{"running":2}'],
  ])("%s", (template, text) => {
    expect(parsePaths(template)(web)).toBe(text);
  });

  it("bring no control characters to a terminal", () => {
    expect(parsePaths("{{.spec.env.0}}")(web)).not.toContain("\u001b");
  });

  it.each([
    ["name", /is no template/],
    ["{{.name", /is no template/],
    ["{{.name}} {{range .spec}}", /no path/],
    ["{{.nope}}", /"nope", which is no field.*replicas/s],
    ["{{.spec.port}}", /"port", which is no field in \.spec.*ports/s],
    ["{{.name.length}}", /"length", which is no field in \.name/],
  ])("%s is refused", (template, message) => {
    let refusal: unknown;
    try {
      parsePaths(template)(web);
    } catch (error) {
      refusal = error;
    }
    expect(refusal).toBeInstanceOf(UsageError);
    expect(JSON.stringify((refusal as UsageError).violations[0], null, 1).replaceAll('\\"', '"')).toMatch(message);
  });
});
