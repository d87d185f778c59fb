import assert from "node:assert/strict";
import { duplexPair } from "node:stream";
import { mock, test } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { InspectorService } from "../../proto/gen/cloudvmi/agent/v1/inspector_pb.ts";
import { GuestService } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { miniGuest } from "../../vmi/testing/mini-guest.ts";
import { createWireTransport, serveWire } from "../../wire/index.ts";
import { inspectorRoutes } from "./service.ts";

test("the types of one request have one budget together", async (t) => {
  const [ours, theirs] = duplexPair();
  const connection = serveWire(ours, inspectorRoutes(miniGuest().kernel.ram.mapped()), {
    authenticate: () => undefined,
  });
  const transport = createWireTransport({ connect: () => theirs, client: "test" });
  t.after(async () => {
    await transport.close();
    connection.close();
  });
  await createClient(InspectorService, transport).attach({});
  const guests = createClient(GuestService, transport);
  const names = Array.from({ length: 64 }, () => "struct task_struct");
  const ask = () => guests.lookupTypes({ names }, { timeoutMs: 10_000 });
  const { types } = await ask();
  assert.ok(types.every(({ error, members }) => error === "" && members.length > 0));
  // From now on each look at the clock takes a second.
  let now = performance.now();
  mock.method(performance, "now", () => (now += 1000));
  t.after(() => mock.restoreAll());
  await assert.rejects(ask(), (error) => error instanceof ConnectError && error.code === Code.DeadlineExceeded);
});
