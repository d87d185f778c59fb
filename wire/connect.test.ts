import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, createConnectRouter, createRouterTransport } from "@connectrpc/connect";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { GuestService, ListTablesResponseSchema } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { addToConnect, createRoutes, Encoded, pathOf } from "./index.ts";
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

/** The handlers for ReadMemory and ReadTable, of requests of at most 300 bytes and 20 values, and what they did. */
function limited(principalOf: () => string = () => "ann") {
  const handled: number[] = [];
  let answered = 0;
  const routes = createRoutes<string>(() => ({ bytes: 300, values: 20 })).add(GuestService, {
    async readMemory({ items }, context) {
      handled.push(items.length);
      context.whenAnswered(() => answered++);
      return { results: [{ data: new Uint8Array(10) }] };
    },
    async *readTable({ columns }, context) {
      handled.push(columns.length);
      context.whenAnswered(() => answered++);
      yield { rows: 1 };
    },
  });
  const router = createConnectRouter({});
  addToConnect(router, routes, principalOf);
  let read = 0;
  const ask = async (method: "ReadMemory" | "ReadTable", type: string, body: Uint8Array, signal?: AbortSignal) => {
    const handler = router.handlers.find((each) => each.method.name === method)!;
    return handler({
      httpVersion: "1.1",
      url: `https://x/${pathOf(handler.method)}`,
      method: "POST",
      header: new Headers({ "content-type": `application/${type}` }),
      signal: signal ?? new AbortController().signal,
      body: (async function* () {
        for (let at = 0; at < body.length; at += 100) {
          read += Math.min(100, body.length - at);
          yield body.subarray(at, at + 100);
        }
      })(),
    });
  };
  return { ask, handled, read: () => read, answered: () => answered };
}

/** What came back, as text. */
async function textOf({ body, trailer }: UniversalServerResponse): Promise<string> {
  const pieces: Uint8Array[] = [];
  for await (const piece of body ?? []) pieces.push(piece);
  return decodeURIComponent(Buffer.concat(pieces).toString() + [...(trailer ?? [])].join());
}

const enveloped = (message: Uint8Array, length = message.length): Uint8Array => {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, message]);
};
const items = (count: number): Uint8Array => Uint8Array.from(Array(count).fill([0x12, 0]).flat());
const columns = (count: number): Uint8Array => Uint8Array.from(Array(count).fill([0x1a, 0]).flat());
const jsonItems = (count: number): Uint8Array => Buffer.from(`{"items":[${Array(count).fill("{}").join()}]}`);
const jsonColumns = (count: number): Uint8Array => Buffer.from(`{"columns":[${Array(count).fill('""').join()}]}`);

test("by every protocol a request within its limits is handled, and one over them refused before it is decoded", async () => {
  const kinds = [
    ["ReadMemory", "proto", items],
    ["ReadMemory", "json", jsonItems],
    ["ReadMemory", "grpc", (count: number) => enveloped(items(count))],
    ["ReadMemory", "grpc-web+json", (count: number) => enveloped(jsonItems(count))],
    ["ReadTable", "connect+proto", (count: number) => enveloped(columns(count))],
    ["ReadTable", "connect+json", (count: number) => enveloped(jsonColumns(count))],
  ] as const;
  for (const [method, type, body] of kinds) {
    const { ask, handled } = limited();
    assert.doesNotMatch(await textOf(await ask(method, type, body(9))), /at most/, type);
    assert.match(await textOf(await ask(method, type, body(30))), /holds at most 20 values/, type);
    assert.match(await textOf(await ask(method, type, body(200))), /has at most 300 bytes/, type);
    assert.deepEqual(handled, [9], type);
  }
});

test("an envelope that holds another length than it says, or several, is refused", async () => {
  const { ask, handled } = limited();
  const bodies = [
    enveloped(items(9), 3),
    enveloped(items(9), 300),
    Buffer.concat([enveloped(items(2)), enveloped(items(2))]),
  ];
  for (const body of bodies) assert.match(await textOf(await ask("ReadMemory", "grpc", body)), /is one message/);
  assert.deepEqual(handled, []);
});

test("of a stranger's request no body is read", async () => {
  const stranger = limited(() => {
    throw new ConnectError("who are you?", Code.Unauthenticated);
  });
  for (const [method, type] of [
    ["ReadMemory", "json"],
    ["ReadMemory", "grpc"],
    ["ReadTable", "connect+proto"],
  ] as const) {
    assert.match(await textOf(await stranger.ask(method, type, new Uint8Array(1000))), /who are you/);
  }
  assert.deepEqual([stranger.read(), stranger.handled.length], [0, 0]);
});

test("a call hears that its answer has been taken, or that its caller has left", async () => {
  const { ask, answered } = limited();
  const unary = await ask("ReadMemory", "proto", items(1));
  assert.equal(answered(), 0);
  await textOf(unary);
  assert.equal(answered(), 1);
  const stream = await ask("ReadTable", "connect+proto", enveloped(columns(1)));
  assert.equal(answered(), 1);
  await textOf(stream);
  assert.equal(answered(), 2);
  const caller = new AbortController();
  await ask("ReadMemory", "proto", items(1), caller.signal);
  assert.equal(answered(), 2);
  caller.abort();
  assert.equal(answered(), 3);
});
