// The payloads of the session protocol's frames, to bytes and back.
import { Code, ConnectError } from "@connectrpc/connect";
import { protocolError, u32 } from "./frame.ts";

/** What both ends of TLS call the protocol, by ALPN. */
export const SESSION_PROTOCOL = "cloudvmi/1";

/** How a client introduces itself. */
export interface Hello {
  /** Secret; empty when the client has none. Never logged. */
  readonly token: string;
  /** Name and version of the program, for logs. */
  readonly client: string;
}

export function encodeHello(hello: Hello): Uint8Array {
  const token = Buffer.from(hello.token, "utf8");
  const client = Buffer.from(hello.client, "utf8");
  if (token.length + client.length > 8192) {
    throw new ConnectError("the token or the client name is too long", Code.InvalidArgument);
  }
  const bytes = Buffer.allocUnsafe(2 + token.length + client.length);
  bytes.writeUInt16LE(token.length, 0);
  bytes.set(token, 2);
  bytes.set(client, 2 + token.length);
  return bytes;
}

export function decodeHello(payload: Uint8Array): Hello {
  const end = payload.length < 2 ? Number.POSITIVE_INFINITY : 2 + u16(payload, 0);
  if (end > payload.length) throw protocolError("HELLO is cut short");
  const bytes = asBuffer(payload);
  return { token: bytes.toString("utf8", 2, end), client: bytes.toString("utf8", end) };
}

/** What OPEN carries before the request. */
export function encodeOpen(path: string, timeoutMs: number | undefined): Uint8Array {
  const bytes = Buffer.allocUnsafe(6 + path.length);
  // 0 stands for "no timeout", so a timeout that has already run out becomes 1 ms.
  bytes.writeUInt32LE(timeoutMs === undefined ? 0 : Math.min(Math.max(Math.ceil(timeoutMs), 1), 0xffffffff), 0);
  bytes.writeUInt16LE(path.length, 4);
  bytes.write(path, 6, "latin1");
  return bytes;
}

export function decodeOpen(payload: Uint8Array): { path: string; timeoutMs: number | undefined; request: Uint8Array } {
  const end = payload.length < 6 ? Number.POSITIVE_INFINITY : 6 + u16(payload, 4);
  if (end > payload.length) throw protocolError("OPEN is cut short");
  return {
    path: asBuffer(payload).toString("latin1", 6, end),
    timeoutMs: u32(payload, 0) || undefined,
    request: payload.subarray(end),
  };
}

export function encodeCredit(bytes: number): Uint8Array {
  const payload = Buffer.allocUnsafe(4);
  payload.writeUInt32LE(Math.min(bytes, 0xffffffff), 0);
  return payload;
}

export function decodeCredit(payload: Uint8Array): number {
  if (payload.length !== 4) throw protocolError("CREDIT is not 4 bytes long");
  return u32(payload, 0);
}

/** How a call or a connection ended; undefined: well. */
export function encodeEnd(error: ConnectError | undefined): Uint8Array {
  if (error === undefined) return WELL;
  // Cut: an error's text must always fit, whatever a handler put into it.
  const text = Buffer.from(error.rawMessage.slice(0, MAX_TEXT), "utf8");
  const bytes = Buffer.allocUnsafe(1 + text.length);
  bytes[0] = error.code;
  bytes.set(text, 1);
  return bytes;
}

export function decodeEnd(payload: Uint8Array): ConnectError | undefined {
  const code = payload[0];
  if (code === undefined) throw protocolError("END is empty");
  if (code === 0) return undefined;
  const text = asBuffer(payload).toString("utf8", 1, Math.min(payload.length, MAX_TEXT * 4));
  return new ConnectError(text, Code[code] === undefined ? Code.Unknown : code);
}

const WELL = Uint8Array.of(0);
const MAX_TEXT = 4096;

function u16(bytes: Uint8Array, at: number): number {
  return (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
