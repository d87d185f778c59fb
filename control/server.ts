import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import net, { type AddressInfo } from "node:net";
import tls from "node:tls";
import { createContextKey, createContextValues } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { addToConnect, type Routes, SESSION_PROTOCOL, serveWire, type WireConnection } from "../wire/index.ts";
import { admit, admitHttp, largestRequest } from "./api/admission.ts";
import type { Gate, Session } from "./api/gate.ts";
import { maxRequestBytes } from "./api/request-limits.ts";
import { parseCredential } from "./auth/token.ts";
import type { KeyPair } from "./certificates.ts";
import { type Connection, type ConnectionLimits, createConnections } from "./connections.ts";
import type { Log } from "./log.ts";
import { endUnread } from "./unread.ts";

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
  readonly connections: ConnectionLimits;
}

/** Calls of one connection at once. */
const maxCalls = 64;
/** Of one connection, of all calls under way together. */
const maxHeldBytes = 8 * 1024 * 1024;
/** A client that takes nothing of an answer that waits for it is cut off after this. */
const stallMs = 60_000;

type Request = http.IncomingMessage | http2.Http2ServerRequest;
type Response = http.ServerResponse | http2.Http2ServerResponse;

/** The connection that a request of HTTP came by. */
const connectionKey = createContextKey<Connection | undefined>(undefined);

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
  connections: limits,
}: ServerOptions): Promise<Server> {
  const onError = (error: unknown, where: string) =>
    log.error("call failed", {
      where,
      problem: error instanceof Error ? (error.stack ?? error.message) : String(error),
    });
  const connections = createConnections(limits);
  /** By what a request knows of where it came from. */
  const carriers = new WeakMap<object, Connection>();
  const connectionOf = (request: Request): Connection | undefined =>
    carriers.get("stream" in request ? (request.stream.session ?? request) : request.socket);

  const answer = connectNodeAdapter({
    routes: (router) =>
      addToConnect(
        router,
        routes,
        async (context) => ({
          ...(await admitHttp(gate, context)),
          admitted: () => context.values.get(connectionKey)?.admitted(),
        }),
        { onError },
      ),
    contextValues: (request) => createContextValues().set(connectionKey, connectionOf(request)),
    // Memory hardly compresses, and a table is small.
    acceptCompression: [],
    readMaxBytes: maxRequestBytes,
  });

  function handle(request: Request, response: Response): void {
    const over = connectionOf(request)?.begin();
    if (over !== undefined) response.once("close", over);
    // Node's own limits on headers and requests are kept by servers that listen only.
    const late = setTimeout(() => cutOff(request), limits.requestMs);
    const inTime = () => clearTimeout(late);
    request.once("end", inTime).once("close", inTime);
    endUnread(response, stallMs);
    answer(request, response);
  }

  // Both are given sockets whose TLS is done; neither listens.
  const http1 = http.createServer({ keepAliveTimeout: limits.idleMs }, handle);
  const h2 = http2.createServer({ settings: { maxConcurrentStreams: maxCalls } }, handle);
  h2.on("sessionError", (error) => log.warn("http/2 session failed", { problem: error.message }));
  const wires = new Set<WireConnection>();

  const tlsServer = tls.createServer({
    key: keyPair.key,
    cert: keyPair.certificate,
    minVersion: "TLSv1.2",
    ALPNProtocols: [SESSION_PROTOCOL, "h2", "http/1.1"],
  });
  tlsServer.on("secureConnection", (socket) => {
    const connection = connections.under(socket);
    if (connection === undefined) {
      socket.destroy();
      return;
    }
    socket.on("error", () => socket.destroy());
    if (socket.alpnProtocol === SESSION_PROTOCOL) {
      const wire = serveWire(socket, routes, {
        async authenticate({ token }): Promise<Session> {
          const credential = parseCredential(token);
          // Without a token only what needs none can be called, and every call says so.
          if (credential.kind !== "missing") {
            await gate.authenticate(credential);
            connection.admitted();
          }
          return { credential, admitted: () => connection.admitted() };
        },
        onError,
        admit: (session, method) => admit(gate, session, method),
        maxRequest: largestRequest,
        unreadTimeoutMs: stallMs,
        maxRequestBytes: maxHeldBytes,
        maxCalls,
      });
      connection.handOver(() => wire.calls > 0);
      wires.add(wire);
      void wire.closed.then(() => wires.delete(wire));
    } else if (socket.alpnProtocol === "h2") {
      h2.once("session", (session) => carriers.set(session, connection));
      h2.emit("connection", socket);
    } else {
      carriers.set(socket, connection);
      http1.emit("connection", socket);
    }
  });
  // With TCP's own signs of life clients that are gone without a word leave their places.
  const tcp = { noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 };
  const server = net.createServer(tcp, (socket) => {
    socket.on("error", () => socket.destroy());
    if (connections.open(socket) === undefined) socket.destroy();
    else tlsServer.emit("connection", socket);
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
      connections.close();
      await closed;
    },
  };
}

/** Ends a request that does not come to its end: HTTP/2's other requests of the same client go on. */
function cutOff(request: Request): void {
  if ("stream" in request) request.stream.close(http2.constants.NGHTTP2_CANCEL);
  else request.destroy();
}
