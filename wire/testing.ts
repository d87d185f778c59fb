// What the tests of wire/ and sdk/ share.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, connect as connectNet, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Duplex, duplexPair } from "node:stream";
import { connect as connectTls, createServer as createTlsServer } from "node:tls";
import { type Code, ConnectError, createClient } from "@connectrpc/connect";
import { GuestService } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { createFrameReader, createFrameWriter, Kind } from "./frame.ts";
import { createRoutes, createWireTransport, type Implementation, type ServeOptions, serveWire } from "./index.ts";
import { decodeEnd, encodeHello, encodeOpen } from "./payload.ts";

/** A certificate for localhost, its own authority. Its key is public: it protects nothing. */
export const testCertificate = {
  cert: `-----BEGIN CERTIFICATE-----
MIIBrjCCAVSgAwIBAgIUMUErwo0m4d7UTnIrY0JVbddV2UYwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzA5MzExMVoYDzIxMjYxMDMw
MDkzMTExWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASF7EClpVyGWsZpiQflFnW1tayzTs9upi1Io/DcbWAUg3pNfi4RlEuz
1dQGA0odFYMTD1GNSVlFAd5A23ZjcgjNo4GBMH8wHQYDVR0OBBYEFGO5gXH6jmZF
3oxPNZtFy6mKlJCWMB8GA1UdIwQYMBaAFGO5gXH6jmZF3oxPNZtFy6mKlJCWMA8G
A1UdEwEB/wQFMAMBAf8wLAYDVR0RBCUwI4IJbG9jYWxob3N0hwR/AAABhxAAAAAA
AAAAAAAAAAAAAAABMAoGCCqGSM49BAMCA0gAMEUCIQCpgmRkInYEvZPWettfLKwe
oDFxAcBy4ae34Yze4olgpAIgP5t1zjweUOecRkvsuYVCBkHt04MpoKC96FBHtKzg
F2s=
-----END CERTIFICATE-----
`,
  key: `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg/7qB9J2k8+oZmD18
oJZZqVHU0VAlp75giWc7zpNVBkehRANCAASF7EClpVyGWsZpiQflFnW1tayzTs9u
pi1Io/DcbWAUg3pNfi4RlEuz1dQGA0odFYMTD1GNSVlFAd5A23ZjcgjN
-----END PRIVATE KEY-----
`,
};

/** Where a test server listens, and how to get there. */
export interface Listening extends AsyncDisposable {
  readonly port: number;
  dial(): Promise<Duplex>;
}

/** Accepts connections on a unix socket, or by TLS on loopback. Everything is torn down at the end. */
export async function listen(kind: "unix" | "tls", accept: (stream: Socket) => void): Promise<Listening> {
  const accepted = new Set<Socket>();
  const onConnection = (socket: Socket): void => {
    accepted.add(socket);
    socket.on("error", () => undefined);
    accept(socket);
  };
  const folder = await mkdtemp(join(tmpdir(), "cloudvmi-wire-"));
  const server =
    kind === "unix"
      ? createServer(onConnection)
      : createTlsServer({ ...testCertificate, ALPNProtocols: ["cloudvmi/1"] }, onConnection);
  const path = join(folder, "socket");
  if (kind === "unix") server.listen(path);
  else server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const port = kind === "unix" ? 0 : (server.address() as AddressInfo).port;
  return {
    port,
    async dial() {
      if (kind === "unix") {
        const socket = connectNet(path);
        await once(socket, "connect");
        return socket;
      }
      const socket = connectTls({ host: "127.0.0.1", port, ca: testCertificate.cert, ALPNProtocols: ["cloudvmi/1"] });
      await once(socket, "secureConnect");
      return socket;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of accepted) socket.destroy();
      server.close();
      await rm(folder, { recursive: true });
    },
  };
}

/** The calling end of a connection, frame by frame: for peers that do not behave. */
export interface RawPeer {
  readonly stream: Duplex;
  readonly frames: { id: number; kind: number; payload: Uint8Array }[];
  hello(token?: string): void;
  open(id: number, path: string, request?: Uint8Array, timeoutMs?: number): void;
  send(id: number, kind: number, payload?: Uint8Array): void;
  /** The next frame that has not been asked for yet. Fails when the stream ends instead. */
  frame(): Promise<{ id: number; kind: number; payload: Uint8Array }>;
}

export function rawPeer(stream: Duplex): RawPeer {
  const writer = createFrameWriter(stream);
  const frames: RawPeer["frames"] = [];
  let seen = 0;
  let notify = (): void => {};
  const reader = createFrameReader(1 << 28, (id, kind, payload) => {
    frames.push({ id, kind, payload });
    notify();
    return true;
  });
  stream.on("data", (chunk: Uint8Array) => reader.push(chunk));
  stream.on("error", () => undefined);
  stream.on("close", () => notify());
  return {
    stream,
    frames,
    hello: (token = "secret") => writer.send(0, Kind.Hello, encodeHello({ token, client: "test" })),
    open: (id, path, request, timeoutMs) => writer.send(id, Kind.Open, encodeOpen(path, timeoutMs), request),
    send: (id, kind, payload) => writer.send(id, kind, payload),
    async frame() {
      while (seen === frames.length) {
        if (stream.destroyed) throw new Error("the stream ended");
        await new Promise<void>((resolve) => {
          notify = resolve;
        });
      }
      return frames[seen++]!;
    },
  };
}

/** Resolves when the condition holds; looks at every turn of the event loop, and fails after many. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const end = Date.now() + 10_000;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

export type Guest = Partial<Implementation<typeof GuestService, string>>;

/** A server of `guest` with its principal the token, the calling end of its stream, and what it reported. */
export function serve(guest: Guest, options: Partial<ServeOptions<string>> = {}) {
  const [near, far] = duplexPair();
  const errors: unknown[] = [];
  const routes = createRoutes<string>().add(GuestService, guest);
  const connection = serveWire(far, routes, {
    authenticate: ({ token }) => token,
    onError: (error) => errors.push(error),
    ...options,
  });
  return { near, connection, errors };
}

export function clientOf(near: Duplex, token = "alice") {
  const transport = createWireTransport({ connect: () => near, token });
  return { transport, client: createClient(GuestService, transport) };
}

/** The code and text of the ConnectError that the promise must fail with. */
export async function failure(promise: Promise<unknown>): Promise<[Code, string]> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof ConnectError) return [error.code, error.rawMessage];
    throw error;
  }
  throw new Error("it did not fail");
}

/** The peer's next frame, which must be an END: its call, code and text. */
export async function endOf(peer: RawPeer): Promise<[number, Code | undefined, string | undefined]> {
  const { id, kind, payload } = await peer.frame();
  assert.equal(kind, Kind.End);
  const error = decodeEnd(payload);
  return [id, error?.code, error?.rawMessage];
}
