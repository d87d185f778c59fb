import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { GuestService, ListTablesResponseSchema } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { addToConnect, createRoutes, Encoded } from "./index.ts";
import { failure } from "./testing.ts";

function served() {
  const errors: unknown[] = [];
  const routes = createRoutes<string>().add(GuestService, {
    async listTables(_request, { principal }) {
      return new Encoded(
        toBinary(ListTablesResponseSchema, create(ListTablesResponseSchema, { tables: [{ name: principal }] })),
      );
    },
    async *readTable(request) {
      if (request.table === "secret") throw new ConnectError("not yours", Code.PermissionDenied);
      if (request.table === "broken") throw new Error("at /secret/path");
      yield new Encoded(Uint8Array.of(0x10, 5));
      yield { rows: 6 };
    },
    async readMemory() {
      throw new Error("at /secret/path");
    },
    getRegisters: () => new Promise(() => undefined),
  });
  const transport = createRouterTransport((router) =>
    addToConnect(
      router,
      routes,
      ({ requestHeader }) => {
        const name = requestHeader.get("authorization");
        if (name === null) throw new ConnectError("no token", Code.Unauthenticated);
        return name;
      },
      { onError: (error) => errors.push(error) },
    ),
  );
  return { client: createClient(GuestService, transport), errors };
}

const headers = { authorization: "alice" };

test("the same implementations answer by Connect, encoded answers too", async () => {
  const { client } = served();
  assert.equal((await client.listTables({}, { headers })).tables[0]?.name, "alice");
  const rows: number[] = [];
  for await (const message of client.readTable({}, { headers })) rows.push(message.rows);
  assert.deepEqual(rows, [5, 6]);
});

test("errors are told as over a session", async () => {
  const { client, errors } = served();
  const table = async (name: string): Promise<void> => {
    for await (const message of client.readTable({ table: name }, { headers })) assert.fail(`${message.rows} rows`);
  };
  const internal: [Code, string] = [Code.Internal, "internal error; the server's log says more"];
  assert.deepEqual(await failure(client.listTables({})), [Code.Unauthenticated, "no token"]);
  assert.deepEqual(await failure(table("secret")), [Code.PermissionDenied, "not yours"]);
  assert.deepEqual(await failure(table("broken")), internal);
  assert.deepEqual(await failure(client.readMemory({}, { headers })), internal);
  assert.equal((await failure(client.pause({}, { headers })))[0], Code.Unimplemented);
  assert.equal(errors.length, 2);
});

test("a handler that takes no notice does not outlast the caller's time", async () => {
  const { client } = served();
  assert.equal((await failure(client.getRegisters({}, { headers, timeoutMs: 5 })))[0], Code.DeadlineExceeded);
});
