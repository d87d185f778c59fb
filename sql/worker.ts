// The thread that runs statements, one at a time, each in a WebAssembly memory of its own: what one tenant's statement has
// read is gone before the next one begins.
import { type MessagePort, parentPort, receiveMessageOnPort } from "node:worker_threads";
import { ConnectError } from "@connectrpc/connect";
import { openSqlite } from "./engine/sqlite.ts";
import { runStatement } from "./engine/statement.ts";
import type { EngineSide, FromEngine, Start, ToEngine } from "./protocol.ts";

/** Made ready while nothing is asked. */
let ready = openSqlite();

parentPort!.on("message", (start: Start) => void run(start));

async function run({ job, port, bell }: Start): Promise<void> {
  const line = lineOver(port, new Int32Array(bell));
  try {
    const sqlite = await ready;
    runStatement(sqlite, job, line);
    line.send({ kind: "done" });
  } catch (error) {
    if (error instanceof ConnectError) {
      line.send({ kind: "failed", failure: { code: error.code, message: error.rawMessage } });
    } else line.send({ kind: "defect", error });
  } finally {
    port.close();
    ready = openSqlite();
  }
}

function lineOver(port: MessagePort, bell: Int32Array): EngineSide {
  return {
    send: (message: FromEngine, transfer = []) => port.postMessage(message, [...transfer]),
    receive(timeoutMs) {
      const deadline = performance.now() + timeoutMs;
      for (;;) {
        const heard = Atomics.load(bell, 0);
        const received = receiveMessageOnPort(port) as { message: ToEngine } | undefined;
        if (received !== undefined) return received.message;
        const left = deadline - performance.now();
        if (left <= 0) return undefined;
        Atomics.wait(bell, 0, heard, left);
      }
    },
  };
}
