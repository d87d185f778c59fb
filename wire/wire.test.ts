import assert from "node:assert/strict";
import { duplexPair } from "node:stream";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { GuestService, ReadMemoryResponseSchema } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { createRoutes, createWireTransport, Encoded, serveWire } from "./index.ts";

test("calls", async () => {
  const routes = createRoutes<string>().add(GuestService, {
    async listTables(_request, context) {
      return { tables: [{ name: context.principal }] };
    },
    async readMemory() {
      return new Encoded(
        toBinary(ReadMemoryResponseSchema, create(ReadMemoryResponseSchema, { results: [{ error: "no" }] })),
      );
    },
    async *streamMemory() {
      for (let i = 0; i < 40; i++) yield { address: BigInt(i), data: new Uint8Array(1 << 20) };
    },
    async *readTable() {
      yield { rows: 3 };
    },
  });
  const [a, b] = duplexPair();
  const connection = serveWire(a, routes, { authenticate: ({ token }) => token });
  const transport = createWireTransport({ connect: () => b, token: "t" });
  const client = createClient(GuestService, transport);
  assert.equal((await client.listTables({})).tables[0]?.name, "t");
  assert.equal((await client.readMemory({})).results[0]?.error, "no");
  let n = 0;
  for await (const piece of client.streamMemory({})) n += piece.data.length;
  assert.equal(n, 40 << 20);
  const rows = [];
  for await (const bytes of transport.streamEncoded(GuestService.method.readTable, {})) rows.push(bytes);
  assert.equal(rows.length, 1);
  await assert.rejects(client.pause({}), /not served/);
  await transport.close();
  await connection.closed;
});
