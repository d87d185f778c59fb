/**
 * What a bare TLS socket of this runtime moves on loopback: a sender and a receiver in processes of their own. Started
 * as `bare-tls.ts send|receive`; see measureBareTls.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { connect as connectTls, createServer, type TLSSocket } from "node:tls";

export interface KeyPair {
  readonly certificate: string;
  readonly key: string;
}

const CHUNK = 1 << 20;

/** MiB a second of `bytes` over one bare TLS connection between two processes. */
export async function measureBareTls(bytes: number, pair: KeyPair): Promise<number> {
  const settings = JSON.stringify({ bytes, ...pair });
  const sender = spawn(process.execPath, [import.meta.filename, "send"], { stdio: ["pipe", "pipe", "inherit"] });
  sender.stdin.end(settings);
  const [line] = (await once(sender.stdout.setEncoding("utf8"), "data")) as [string];
  const receiver = spawn(process.execPath, [import.meta.filename, "receive", line.trim()], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  receiver.stdin.end(settings);
  const seconds = Number(await text(receiver.stdout));
  sender.kill();
  return bytes / seconds / (1 << 20);
}

async function send({ bytes, certificate, key }: KeyPair & { bytes: number }): Promise<void> {
  const chunk = Buffer.alloc(CHUNK, 0xa5);
  const server = createServer({ cert: certificate, key }, (socket) => void pour(socket, chunk, bytes));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  process.stdout.write(`${(server.address() as { port: number }).port}\n`);
}

async function pour(socket: TLSSocket, chunk: Buffer, bytes: number): Promise<void> {
  for (let sent = 0; sent < bytes; sent += chunk.length) {
    if (!socket.write(chunk)) await once(socket, "drain");
  }
  socket.end();
}

async function receive({ bytes }: { bytes: number }, port: number): Promise<void> {
  const socket = connectTls({ host: "127.0.0.1", port, rejectUnauthorized: false });
  await once(socket, "secureConnect");
  const begin = performance.now();
  let received = 0;
  socket.on("data", (data: Buffer) => {
    received += data.length;
  });
  await once(socket, "end");
  if (received !== bytes) throw new Error(`${received} bytes came of ${bytes}`);
  process.stdout.write(String((performance.now() - begin) / 1000));
}

if (import.meta.main) {
  const settings = JSON.parse(await text(process.stdin)) as KeyPair & { bytes: number };
  if (process.argv[2] === "send") await send(settings);
  else await receive(settings, Number(process.argv[3]));
}
