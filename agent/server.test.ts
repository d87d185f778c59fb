import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect as connectTcp, connect as connectUnix, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { createClient } from "@connectrpc/connect";
import { AgentService } from "../proto/gen/cloudvmi/agent/v1/agent_pb.ts";
import { createRoutes, createWireTransport } from "../wire/index.ts";
import { ConfigError } from "./config-reader.ts";
import { serve } from "./server.ts";

const folder = mkdtempSync(join(tmpdir(), "cloudvmi-server-"));
const file = (name: string) => join(folder, name);
const routes = createRoutes<undefined>().add(AgentService, { describe: async () => ({ host: "host1" }) });
after(() => rmSync(folder, { recursive: true }));

function openssl(...args: string[]): void {
  execFileSync("openssl", args, { stdio: "ignore", cwd: folder });
}

before(() => {
  for (const ca of ["ca", "other"]) {
    openssl(
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-keyout",
      `${ca}.key`,
      "-out",
      `${ca}.pem`,
      "-subj",
      `/CN=${ca}`,
      "-days",
      "2",
    );
  }
  writeFileSync(file("san"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
  for (const [name, ca] of [
    ["agent", "ca"],
    ["control", "ca"],
    ["stranger", "other"],
  ] as const) {
    openssl(
      "req",
      "-new",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-keyout",
      `${name}.key`,
      "-out",
      `${name}.csr`,
      "-subj",
      `/CN=${name}`,
    );
    openssl(
      "x509",
      "-req",
      "-in",
      `${name}.csr`,
      "-CA",
      `${ca}.pem`,
      "-CAkey",
      `${ca}.key`,
      "-CAcreateserial",
      "-out",
      `${name}.pem`,
      "-days",
      "2",
      "-extfile",
      "san",
    );
  }
});

const listenTls = { kind: "tls", host: "127.0.0.1", port: 0 } as const;
const tls = { ca: file("ca.pem"), certificate: file("agent.pem"), key: file("agent.key") };

function hostBy(name: string | undefined, port: number, options: { maxVersion?: "TLSv1.2" } = {}) {
  const transport = createWireTransport({
    connect: () =>
      connectTls({
        host: "127.0.0.1",
        port,
        ca: readFileSync(file("ca.pem")),
        ALPNProtocols: ["cloudvmi/1"],
        ...(name ? { cert: readFileSync(file(`${name}.pem`)), key: readFileSync(file(`${name}.key`)) } : {}),
        ...options,
      }).on("error", () => {}),
  });
  return createClient(AgentService, transport)
    .describe({}, { timeoutMs: 5000 })
    .then(({ host }) => host)
    .finally(() => transport.close());
}

test("TLS: control is served, whoever lacks a certificate of its CA is not", async () => {
  const log: string[] = [];
  const server = await serve({ listen: listenTls, tls }, routes, (line) => log.push(line));
  const port = Number(/^tls:\/\/127\.0\.0\.1:(\d+)$/.exec(server.address)![1]);
  try {
    assert.equal(await hostBy("control", port), "host1");
    await assert.rejects(hostBy(undefined, port));
    await assert.rejects(hostBy("stranger", port));
    await assert.rejects(hostBy("control", port, { maxVersion: "TLSv1.2" }));
    assert.equal(await hostBy("control", port), "host1");
    assert.ok(log.length >= 3 && log.every((line) => line.startsWith("refused ")));
  } finally {
    await server.close();
  }
});

test("TLS: who says nothing is closed in the end, and locks nobody out until then", async () => {
  const server = await serve({ listen: listenTls, tls }, routes, () => {}, 2000);
  const port = Number(/:(\d+)$/.exec(server.address)![1]);
  const silent = Array.from({ length: 100 }, () => connectTcp(port, "127.0.0.1").on("error", () => {}));
  try {
    await Promise.all(silent.map((socket) => once(socket, "connect")));
    const closed = silent.map((socket) => once(socket, "close"));
    assert.equal(await hostBy("control", port), "host1");
    await Promise.all(closed);
  } finally {
    for (const socket of silent) socket.destroy();
    await server.close();
  }
});

test("TLS: a file that is missing is named", async () => {
  await assert.rejects(
    serve({ listen: listenTls, tls: { ...tls, key: file("none") } }, routes, () => {}),
    (error: Error) => {
      assert.ok(error instanceof ConfigError);
      assert.match(error.message, /\[tls\] key: can't be read.*none/);
      return true;
    },
  );
});

test("unix: only its owner may connect, and one agent listens", async () => {
  const path = file("agent.sock");
  const config = { listen: { kind: "unix", path }, tls: undefined } as const;
  const server = await serve(config, routes, () => {});
  assert.equal(statSync(path).mode & 0o777, 0o600);
  const transport = createWireTransport({ connect: () => connectUnix(path) });
  assert.equal((await createClient(AgentService, transport).describe({})).host, "host1");
  await transport.close();
  await assert.rejects(
    serve(config, routes, () => {}),
    /another agent listens there/,
  );
  await server.close();
  assert.equal(existsSync(path), false);
});

test("unix: what an agent that was killed has left is replaced; a folder open to others is refused", async () => {
  const path = file("left.sock");
  // A socket file without a listener.
  const left = createServer().listen(path);
  await new Promise((resolve) => left.once("listening", resolve));
  execFileSync("cp", ["-a", path, `${path}.kept`]);
  await new Promise((resolve) => left.close(resolve));
  execFileSync("mv", [`${path}.kept`, path]);
  const server = await serve({ listen: { kind: "unix", path }, tls: undefined }, routes, () => {});
  await server.close();
  mkdirSync(file("open"));
  chmodSync(file("open"), 0o777);
  const listen = { kind: "unix", path: file("open/agent.sock") } as const;
  await assert.rejects(
    serve({ listen, tls: undefined }, routes, () => {}),
    /other users may replace the agent's socket/,
  );
  const nowhere = { kind: "unix", path: file("none/agent.sock") } as const;
  await assert.rejects(
    serve({ listen: nowhere, tls: undefined }, routes, () => {}),
    /no such folder/,
  );
});
