/** Where control reaches the agent: a unix socket of this host, or TLS with certificates on both ends. */
import { chmodSync, readFileSync, rmSync, statSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { dirname } from "node:path";
import { createServer as createTlsServer, type TLSSocket } from "node:tls";
import { type Routes, SESSION_PROTOCOL, serveWire } from "../wire/index.ts";
import type { AgentConfig } from "./config.ts";
import { ConfigError } from "./config-reader.ts";

export interface RunningServer {
  /** unix:/path or tls://host:port, with the port that was given by the system where 0 was asked for. */
  readonly address: string;
  close(): Promise<void>;
}

/** Control needs one connection a replica. */
const mostConnections = 64;

/** @throws ConfigError */
export async function serve(
  config: Pick<AgentConfig, "listen" | "tls">,
  routes: Routes<undefined>,
  log: (line: string) => void,
): Promise<RunningServer> {
  const sockets = new Set<Socket>();
  const accept = (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    serveWire(socket, routes, {
      authenticate: () => undefined,
      onError: (error, where) =>
        log(`${where}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`),
    });
  };
  const { listen } = config;
  const server = listen.kind === "unix" ? createServer(accept) : createTls(config, accept, log);
  server.maxConnections = mostConnections;
  const address = listen.kind === "unix" ? await listenUnix(server, listen.path) : await listenTcp(server, listen);
  return {
    address,
    async close() {
      const done = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await done;
    },
  };
}

function createTls(
  { tls }: Pick<AgentConfig, "tls">,
  accept: (socket: Socket) => void,
  log: (line: string) => void,
): Server {
  if (!tls) throw new ConfigError("listening on TLS needs [tls]");
  const server = createTlsServer(
    {
      ca: pem(tls.ca, "ca"),
      cert: pem(tls.certificate, "certificate"),
      key: pem(tls.key, "key"),
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: "TLSv1.3",
      // The fastest first: guests' memory crosses this hop by the gigabyte.
      ciphers: "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256",
      ALPNProtocols: [SESSION_PROTOCOL],
      handshakeTimeout: 10_000,
    },
    accept,
  );
  server.on("tlsClientError", (error, socket) =>
    log(`refused ${socket.remoteAddress ?? "a client"}: ${whyRefused(error, socket)}`),
  );
  return server;
}

/** Node ends the connection of a certificate that can't be trusted, and then reports only that it has ended. */
function whyRefused(error: Error, socket: TLSSocket): string {
  const reason: unknown = socket.authorizationError;
  const text = reason instanceof Error ? reason.message : reason;
  return typeof text === "string" ? `its certificate can't be used: ${text}` : error.message;
}

function pem(file: string, key: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new ConfigError(`[tls] ${key}: can't be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** @throws ConfigError when the folder is open to others, or an agent listens there already. */
async function listenUnix(server: Server, path: string): Promise<string> {
  const folder = statSync(dirname(path), { throwIfNoEntry: false });
  if (!folder?.isDirectory()) throw new ConfigError(`${dirname(path)}: no such folder for the agent's socket`);
  const uid = process.getuid?.() ?? 0;
  const writableByOthers = (folder.mode & 0o022) !== 0 && (folder.mode & 0o1000) === 0;
  if (writableByOthers || (folder.uid !== uid && folder.uid !== 0)) {
    throw new ConfigError(
      `${dirname(path)}: other users may replace the agent's socket there; make it yours alone (chmod 700)`,
    );
  }
  if (statSync(path, { throwIfNoEntry: false })?.isSocket()) {
    if (await isListening(path)) throw new ConfigError(`${path}: another agent listens there`);
    rmSync(path);
  }
  const mask = process.umask(0o177);
  try {
    await listening(server, () => server.listen(path), path);
  } finally {
    process.umask(mask);
  }
  chmodSync(path, 0o600);
  return `unix:${path}`;
}

async function listenTcp(server: Server, { host, port }: { host: string; port: number }): Promise<string> {
  await listening(server, () => server.listen(port, host), `${host}:${port}`);
  const bound = server.address();
  const shown = host.includes(":") ? `[${host}]` : host;
  return `tls://${shown}:${typeof bound === "object" && bound ? bound.port : port}`;
}

function listening(server: Server, listen: () => void, where: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error) => reject(new ConfigError(`${where}: can't listen: ${error.message}`)));
    server.once("listening", resolve);
    listen();
  });
}

/** Whether somebody listens on a unix socket. */
export function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
