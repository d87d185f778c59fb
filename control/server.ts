import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import tls from "node:tls";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { addToConnect, type Routes, serveWire, type WireConnection } from "../wire/index.ts";
import type { Gate, Session } from "./api/gate.ts";
import { bearerToken, parseCredential } from "./auth/token.ts";
import type { KeyPair } from "./certificates.ts";
import type { Log } from "./log.ts";

export interface Server {
  readonly url: string;
  /** Takes no more connections, waits for `idle`, then ends those there are. */
  close(idle: () => Promise<void>): Promise<void>;
}

export interface ServerOptions {
  readonly listen: { readonly host: string; readonly port: number };
  readonly keyPair: KeyPair;
  readonly routes: Routes<Session>;
  readonly gate: Gate;
  readonly log: Log;
  /** At once; those beyond are closed unanswered. */
  readonly maxConnections: number;
}

/** Of one request: the largest batch, 65,536 addresses of processes, takes 1.6 MiB of it. */
const maxRequestBytes = 2 * 1024 * 1024;
/** Calls of one connection at once. */
const maxCalls = 64;
/** Of one connection, of all calls under way together. */
const maxHeldBytes = 8 * 1024 * 1024;

/**
 * The one public port. What a client speaks is settled in the TLS handshake (ALPN): our session protocol, or HTTP/2
 * or HTTP/1.1 for Connect, gRPC and gRPC-Web.
 */
export async function startServer({
  listen,
  keyPair,
  routes,
  gate,
  log,
  maxConnections,
}: ServerOptions): Promise<Server> {
  const onError = (error: unknown, where: string) =>
    log.error("call failed", {
      where,
      problem: error instanceof Error ? (error.stack ?? error.message) : String(error),
    });
  const handler = connectNodeAdapter({
    routes: (router) =>
      addToConnect(
        router,
        routes,
        (context) => ({ credential: parseCredential(bearerToken(context.requestHeader.get("authorization"))) }),
        { onError },
      ),
    // Memory hardly compresses, and a table is small.
    acceptCompression: [],
    readMaxBytes: maxRequestBytes,
  });
  // Both are given sockets whose TLS is done; neither listens.
  const http1 = http.createServer(handler);
  const h2 = http2.createServer({ settings: { maxConcurrentStreams: maxCalls } }, handler);
  h2.on("sessionError", (error) => log.warn("http/2 session failed", { problem: error.message }));
  const sockets = new Set<tls.TLSSocket>();
  const wires = new Set<WireConnection>();

  async function authenticate({ token }: { token: string }): Promise<Session> {
    const credential = parseCredential(token);
    // Without a token only what needs none can be called, and every call says so.
    if (credential.kind !== "missing") await gate.authenticate(credential);
    return { credential };
  }

  const server = tls.createServer({
    key: keyPair.key,
    cert: keyPair.certificate,
    minVersion: "TLSv1.2",
    ALPNProtocols: ["cloudvmi/1", "h2", "http/1.1"],
    handshakeTimeout: 10_000,
  });
  server.maxConnections = maxConnections;
  server.on("secureConnection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    socket.setNoDelay(true);
    if (socket.alpnProtocol === "cloudvmi/1") {
      const wire = serveWire(socket, routes, {
        authenticate,
        onError,
        maxRequest: maxRequestBytes,
        maxRequestBytes: maxHeldBytes,
        maxCalls,
      });
      wires.add(wire);
      void wire.closed.then(() => wires.delete(wire));
    } else if (socket.alpnProtocol === "h2") {
      h2.emit("connection", socket);
    } else {
      http1.emit("connection", socket);
    }
  });
  server.listen(listen.port, listen.host);
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const shown = listen.host === "0.0.0.0" || listen.host === "::" ? "localhost" : listen.host;

  return {
    url: `https://${shown.includes(":") ? `[${shown}]` : shown}:${port}`,
    async close(idle) {
      const closed = once(server, "close");
      server.close();
      await idle();
      for (const wire of wires) wire.close();
      await Promise.all([...wires].map((wire) => wire.closed));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
