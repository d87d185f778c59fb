import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync, statSync } from "node:fs";
import http2 from "node:http2";
import net from "node:net";
import path from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import tls from "node:tls";
import { Code } from "@connectrpc/connect";
import { HealthService } from "../proto/gen/cloudvmi/v1/health_pb.ts";
import { createRoutes } from "../wire/index.ts";
import { testCertificate } from "../wire/testing.ts";
import type { Gate, Session } from "./api/gate.ts";
import type { ConnectionLimits } from "./connections.ts";
import { createLog } from "./log.ts";
import { startServer } from "./server.ts";
import { failure, protocols, startHarness, until, web1 } from "./testing/harness.ts";

test("closing waits for calls under way and takes no new ones", async () => {
  const harness = await startHarness();
  const clients = await Promise.all(protocols.map((protocol) => harness.as("analyst", protocol)));
  const gate = Promise.withResolvers<void>();
  harness.agent.before = () => gate.promise;
  const calls = clients.map(({ guest }) => guest.translate({ vm: { uuid: web1 } }));
  await until(() => harness.agent.seen.length === protocols.length);
  const closed = harness.control.close();
  const late = failure(harness.clients("").health.check({}));
  assert.equal((await late).code, Code.Unavailable);
  gate.resolve();
  for (const answer of await Promise.all(calls)) assert.equal(answer.vm?.uuid, web1);
  await closed;
  await harness[Symbol.asyncDispose]();
});

test("a client that speaks nothing known, or nonsense, harms nobody", async () => {
  await using harness = await startHarness();
  const { hostname, port } = new URL(harness.control.url);
  const connect = async (protocol: string) => {
    const socket = tls.connect({ host: hostname, port: Number(port), ca: harness.ca, ALPNProtocols: [protocol] });
    socket.on("error", () => {});
    await once(socket, "secureConnect");
    return socket;
  };
  for (const protocol of ["cloudvmi/1", "h2", "http/1.1"]) {
    const socket = await connect(protocol);
    socket.resume();
    socket.write(Buffer.alloc(100_000, 0xff));
    await new Promise((resolve) => socket.once("close", resolve));
  }
  await assert.rejects(connect("smtp"));
  assert.equal((await harness.clients("").health.check({})).ready, true);
});

test("the first operator's token is its owner's to read, in no log, and made once", async () => {
  await using harness = await startHarness();
  const file = path.join(harness.directory, "state", "admin.token");
  const token = readFileSync(file, "utf8");
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.match(token, /^cvmi_[0-9a-f]{16}_[A-Za-z0-9_-]{43}\n$/);
  await harness.restart();
  assert.equal(readFileSync(file, "utf8"), token);
  const { account } = harness.clients(token.trim());
  const who = await account.whoAmI({});
  assert.equal(who.operator, true);
  assert.equal(who.tokenExpiresMs, 0n);
  assert.ok(!harness.log.join("").includes(token.trim().slice(-43)));
  for (const line of harness.log)
    assert.deepEqual(Object.keys(JSON.parse(line)).slice(0, 3), ["time", "level", "event"]);
});

/** A port that only tells its health, with times short enough to wait for. */
async function startPort(limits: Partial<ConnectionLimits>, check: () => Promise<void> = async () => {}) {
  const gate = { authenticate: async () => ({}) } as unknown as Gate;
  const routes = createRoutes<Session>().add(HealthService, {
    async check(_request, { principal }) {
      principal.admitted?.();
      await check();
      return { ready: true };
    },
  });
  const server = await startServer({
    listen: { host: "127.0.0.1", port: 0 },
    keyPair: { certificate: testCertificate.cert, key: testCertificate.key },
    routes,
    gate,
    log: createLog(() => {}),
    connections: { max: 100, openMs: 60_000, requestMs: 60_000, idleMs: 60_000, ...limits },
  });
  const { port } = new URL(server.url);
  const to = { host: "127.0.0.1", port: Number(port) };
  const sockets = new Set<net.Socket>();
  const kept = <T extends net.Socket>(socket: T): T => {
    sockets.add(socket.on("error", () => {}).resume());
    return socket;
  };
  const dial = async () => {
    const socket = kept(net.connect(to));
    await once(socket, "connect");
    return socket;
  };
  const secure = async (protocol: string) => {
    const socket = kept(tls.connect({ ...to, ca: testCertificate.cert, ALPNProtocols: [protocol] }));
    await once(socket, "secureConnect");
    return socket;
  };
  const session = async () => {
    const made = http2.connect(server.url, { createConnection: () => kept(tls.connect(h2Options)) });
    made.on("error", () => {});
    await once(made, "connect");
    return made;
  };
  const h2Options = { ...to, ca: testCertificate.cert, ALPNProtocols: ["h2"] };
  return {
    url: server.url,
    dial,
    secure,
    session,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await server.close(async () => {});
    },
  };
}

const checkPath = "/cloudvmi.v1.HealthService/Check";
const closed = (one: net.Socket | http2.ClientHttp2Session) =>
  one.destroyed ? Promise.resolve() : new Promise<void>((resolve) => one.once("close", () => resolve()));

/** The status of a call over a session; undefined when it came to nothing. */
async function checkOver(session: http2.ClientHttp2Session): Promise<number | undefined> {
  const headers = { ":method": "POST", ":path": checkPath, "content-type": "application/json" };
  const stream = session.request(headers).on("error", () => {});
  let status: number | undefined;
  stream.on("response", (answer) => (status = answer[":status"])).resume();
  stream.end("{}");
  await new Promise((resolve) => stream.once("close", resolve));
  return status;
}

test("whoever asks nothing is shown out: before TLS, behind it, and with half a header", async () => {
  await using port = await startPort({ openMs: 50 });
  const silent = await port.dial();
  // The first bytes of a handshake: a record of 512 bytes is to come.
  const halfHello = await port.dial();
  halfHello.write(Buffer.from([0x16, 3, 1, 2, 0, 1]));
  const secured = await Promise.all(["http/1.1", "h2"].map(port.secure));
  const halfHeader = await port.secure("http/1.1");
  halfHeader.write(`POST ${checkPath} HTTP/1.1\r\nHost: x\r\nContent-`);
  await Promise.all([silent, halfHello, ...secured, halfHeader].map(closed));
});

test("a request that does not come to its end is cut off, and others of the same session go on", async () => {
  await using port = await startPort({ requestMs: 50 });
  const halfBody = await port.secure("http/1.1");
  const headers = "Host: x\r\nContent-Type: application/json\r\nContent-Length: 2";
  halfBody.write(`POST ${checkPath} HTTP/1.1\r\n${headers}\r\n\r\n{`);
  const session = await port.session();
  const endless = session.request({ ":method": "POST", ":path": checkPath, "content-type": "application/json" });
  endless.on("error", () => {}).write("{");
  await Promise.all([closed(halfBody), once(endless, "close")]);
  assert.equal(await checkOver(session), 200);
});

test("a session that is idle is ended; one in use, or asked again in time, is not", async () => {
  const answered = Promise.withResolvers<void>();
  let calls = 0;
  await using port = await startPort({ idleMs: 1000 }, async () => {
    if (++calls === 1) await answered.promise;
  });
  const inUse = await port.session();
  const slow = checkOver(inUse);
  await until(() => calls === 1);
  const again = await port.session();
  assert.equal(await checkOver(again), 200);
  const idle = await port.session();
  assert.equal(await checkOver(idle), 200);
  const ended = closed(idle).then(() => true);
  while (!(await Promise.race([ended, sleep(20)]))) {
    assert.equal(await checkOver(again), 200);
  }
  answered.resolve();
  assert.equal(await slow, 200);
});

test("with every place taken the oldest stranger leaves, then the idle, and nobody who is being answered", async () => {
  const answered = Promise.withResolvers<void>();
  let calls = 0;
  await using port = await startPort({ max: 2 }, async () => {
    if (++calls > 3) await answered.promise;
  });
  const [first, second] = [await port.dial(), await port.dial()];
  const caller = await port.session();
  await closed(first);
  assert.equal(await checkOver(caller), 200);
  const other = await port.session();
  await closed(second);
  assert.equal(await checkOver(other), 200);
  assert.equal(await checkOver(caller), 200);
  // Both have proved themselves: the one that has asked nothing for longer leaves.
  let third: http2.ClientHttp2Session | undefined;
  // The service may take a moment longer than its callers to see that they have been answered.
  await until(async () => {
    third = await port.session().catch(() => undefined);
    return third !== undefined;
  });
  assert.ok(third);
  await closed(other);
  const answers = [checkOver(caller), checkOver(third)];
  await until(() => calls === 5);
  await until(async () => {
    const refused = await port.dial();
    await Promise.race([closed(refused), sleep(20)]);
    return refused.destroyed && !caller.destroyed && !third?.destroyed;
  });
  answered.resolve();
  assert.deepEqual(await Promise.all(answers), [200, 200]);
});

for (const protocol of protocols) {
  test(`a caller with a token keeps its place before strangers, by ${protocol}`, async () => {
    await using harness = await startHarness({ connections: 3 });
    const analyst = await harness.as("analyst", protocol);
    await analyst.vms.listVms({});
    const { hostname, port } = new URL(harness.control.url);
    const calls = Promise.withResolvers<void>();
    harness.agent.before = () => calls.promise;
    const slow = analyst.guest.lookupSymbols({ vm: { uuid: web1 } });
    await until(() => harness.agent.seen.length === 1);
    const strangers = Array.from({ length: 9 }, () => net.connect(Number(port), hostname).on("error", () => {}));
    await Promise.all(strangers.map((socket) => once(socket, "connect")));
    await until(() => strangers.filter((socket) => socket.resume().destroyed).length >= 7);
    calls.resolve();
    assert.equal((await slow).vm?.uuid, web1);
    for (const socket of strangers) socket.destroy();
  });
}
