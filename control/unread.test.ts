import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import net, { type AddressInfo } from "node:net";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { endUnread } from "./unread.ts";

/** More than the system takes for a client that does not read. */
const large = 32 << 20;

/** A server of both versions of HTTP that answers `bytes` bytes after a while; and which of its answers came to their end. */
async function serveBody(ms: number, bytes = large, lateMs = 0) {
  const ended: boolean[] = [];
  const handle = async (_request: unknown, response: http.ServerResponse | http2.Http2ServerResponse) => {
    endUnread(response, ms);
    response.once("close", () => ended.push(response.writableFinished));
    await sleep(lateMs);
    response.end(Buffer.alloc(bytes));
  };
  const servers = [http.createServer(handle), http2.createServer(handle)];
  for (const server of servers) await once(server.listen(0, "127.0.0.1"), "listening");
  const [http1Port, http2Port] = servers.map((server) => (server.address() as AddressInfo).port);
  return {
    ended,
    http1Port: http1Port!,
    http2Port: http2Port!,
    [Symbol.dispose]() {
      for (const server of servers) server.close();
    },
  };
}

test("an answer by HTTP/1 that nobody reads is cut off", async () => {
  using server = await serveBody(100);
  const socket = net.connect(server.http1Port, "127.0.0.1").on("error", () => {});
  socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  while (server.ended.length === 0) await sleep(10);
  assert.deepEqual(server.ended, [false]);
  socket.destroy();
});

test("an answer by HTTP/2 that nobody reads is cut off, and others of the same session go on", async () => {
  using server = await serveBody(100, 1 << 20);
  const session = http2.connect(`http://127.0.0.1:${server.http2Port}`);
  const unread = session.request({ ":path": "/" }).on("error", () => {});
  unread.pause();
  while (server.ended.length === 0) await sleep(10);
  assert.deepEqual(server.ended, [false]);
  const other = session.request({ ":path": "/" });
  let length = 0;
  for await (const piece of other) length += (piece as Buffer).length;
  assert.equal(length, 1 << 20);
  session.close();
});

test("an answer that is made slowly, or read slowly, goes on", async () => {
  using server = await serveBody(300, large, 500);
  const request = http.get({ port: server.http1Port, host: "127.0.0.1", agent: false });
  const [response] = (await once(request, "response")) as [http.IncomingMessage];
  let length = 0;
  let rests = 0;
  for await (const piece of response) {
    length += (piece as Buffer).length;
    if (length > rests * (2 << 20)) {
      rests++;
      await sleep(30);
    }
  }
  assert.equal(length, large);
});
