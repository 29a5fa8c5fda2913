// Put and Range of etcd's API (etcd-io/etcd rpc.proto), as much of them as the benchmark needs: one generator speaks to
// etcd and to our members with the same bytes.

import type { MethodDefinition } from "@grpc/grpc-js";
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

export interface Put {
  key: Uint8Array;
  value: Uint8Array;
}

/** Of one key; linearizable, as is etcd's default. */
export interface Range {
  key: Uint8Array;
}

export interface RangeResponse {
  value: Uint8Array | undefined;
}

const bytesOf = (writer: BinaryWriter): Buffer => Buffer.from(writer.finish());

/** Calls back for each field with a length; skips the others. */
function eachBytes(bytes: Uint8Array, field: (number: number, value: Uint8Array) => void): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    if (wireType === WireType.LengthDelimited) field(number, reader.bytes());
    else reader.skip(wireType);
  }
}

export const put: MethodDefinition<Put, object> = {
  path: "/etcdserverpb.KV/Put",
  requestStream: false,
  responseStream: false,
  requestSerialize: ({ key, value }) => bytesOf(new BinaryWriter().uint32(10).bytes(key).uint32(18).bytes(value)),
  requestDeserialize: (bytes) => {
    const request: Put = { key: new Uint8Array(), value: new Uint8Array() };
    eachBytes(bytes, (number, value) => {
      if (number === 1) request.key = value;
      if (number === 2) request.value = value;
    });
    return request;
  },
  responseSerialize: () => Buffer.alloc(0),
  responseDeserialize: () => ({}),
};

export const range: MethodDefinition<Range, RangeResponse> = {
  path: "/etcdserverpb.KV/Range",
  requestStream: false,
  responseStream: false,
  requestSerialize: ({ key }) => bytesOf(new BinaryWriter().uint32(10).bytes(key)),
  requestDeserialize: (bytes) => {
    const request: Range = { key: new Uint8Array() };
    eachBytes(bytes, (number, value) => {
      if (number === 1) request.key = value;
    });
    return request;
  },
  responseSerialize: ({ value }) => {
    if (value === undefined) return Buffer.alloc(0);
    const keyValue = new BinaryWriter().uint32(42).bytes(value).finish();
    return bytesOf(new BinaryWriter().uint32(18).bytes(keyValue));
  },
  responseDeserialize: (bytes) => {
    const response: RangeResponse = { value: undefined };
    eachBytes(bytes, (number, keyValue) => {
      if (number !== 2) return;
      eachBytes(keyValue, (inner, value) => {
        if (inner === 5) response.value = value;
      });
    });
    return response;
  },
};
