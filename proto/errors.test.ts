import { Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { ClusterError } from "../lib/errors.js";
import { errorTrailer, fromServiceError, statusOf, toStatus } from "./errors.js";

function serviceError(parts: { code: status; details: string; metadata?: Metadata }): ServiceError {
  return Object.assign(new Error(`${parts.code} ${parts.details}`), { metadata: new Metadata(), ...parts });
}

describe("errors over gRPC", () => {
  it("give the client the server's error, for every code", () => {
    for (const code of Object.keys(statusOf) as (keyof typeof statusOf)[]) {
      const sent = new ClusterError(code, `it was ${code}`, { details: { leader: "10.0.0.1:7400" } });
      const got = fromServiceError(serviceError(toStatus(sent)));
      expect(got.code).toBe(code);
      expect(got.message).toBe(sent.message);
      expect(got.details).toEqual(sent.details);
    }
  });

  it("carry all violations", () => {
    const violation = { field: "replicas", value: "-1", rule: "must be ≥ 0", fix: "write --replicas 3" };
    const got = fromServiceError(serviceError(toStatus(ClusterError.invalid([violation, violation]))));
    expect(got.violations).toEqual([violation, violation]);
    expect(got.code).toBe("invalid_argument");
  });

  it("stay below the size that HTTP/2 peers take, and keep code and message", () => {
    const violations = Array.from({ length: 500 }, (_, i) => ({
      field: `env[${i}]`,
      value: "x".repeat(5000),
      rule: "r".repeat(300),
      fix: "f",
    }));
    const sent = toStatus(ClusterError.invalid(violations));
    const trailer = sent.metadata.get(errorTrailer)[0] as Buffer;
    expect(trailer.length).toBeLessThanOrEqual(8 * 1024);
    expect(sent.details.length).toBeLessThanOrEqual(1024);
    const got = fromServiceError(serviceError(sent));
    expect(got.code).toBe("invalid_argument");
    expect(got.violations.length).toBeGreaterThan(0);
    expect(got.violations[0]?.field).toBe("env[0]");
  });

  it("normalise what is thrown and is no ClusterError", () => {
    expect(toStatus(new Error("boom"))).toMatchObject({ code: status.INTERNAL, details: "boom" });
    const abort = Object.assign(new Error("gone"), { name: "AbortError" });
    expect(toStatus(abort).code).toBe(status.CANCELLED);
  });

  it("map gRPC's own statuses to the nearest code", () => {
    expect(fromServiceError(serviceError({ code: status.UNAVAILABLE, details: "no connection" })).code).toBe(
      "unavailable",
    );
    expect(fromServiceError(serviceError({ code: status.UNIMPLEMENTED, details: "?" })).code).toBe(
      "failed_precondition",
    );
    expect(fromServiceError(serviceError({ code: status.DATA_LOSS, details: "?" })).code).toBe("internal");
  });

  it("distrust a trailer that is not ours", () => {
    for (const bytes of [
      "{",
      "[]",
      '{"code":"nonsense","message":"m"}',
      '{"code":"conflict"}',
      '{"code":"toString","message":"m"}',
    ]) {
      const metadata = new Metadata();
      metadata.set(errorTrailer, Buffer.from(bytes));
      expect(fromServiceError(serviceError({ code: status.ABORTED, details: "d", metadata })).code).toBe("conflict");
    }
    const metadata = new Metadata();
    metadata.set(
      errorTrailer,
      Buffer.from('{"code":"not_found","message":"m","details":{"a":1,"b":"c"},"violations":[1,{"field":"f"}]}'),
    );
    const got = fromServiceError(serviceError({ code: status.ABORTED, details: "d", metadata }));
    expect([got.code, got.details, got.violations]).toEqual(["not_found", { b: "c" }, []]);
  });
});
