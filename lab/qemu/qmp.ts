import { createInterface } from "node:readline";
import { connectTo } from "./socket.ts";

/**
 * Runs one command on a QEMU monitor and leaves it free again.
 * @throws Error when QEMU refuses the command or is gone, and when `signal` fires.
 */
export async function monitorCommand(
  path: string,
  command: string,
  args: Record<string, unknown> = {},
  signal: AbortSignal = AbortSignal.timeout(10_000),
): Promise<unknown> {
  const socket = await connectTo(path, signal);
  const stop = () => socket.destroy();
  signal.addEventListener("abort", stop);
  try {
    let greeted = false;
    for await (const line of createInterface({ input: socket })) {
      const message = JSON.parse(line) as { QMP?: unknown; id?: string; return?: unknown; error?: { desc: string } };
      if (message.QMP) socket.write('{"execute":"qmp_capabilities","id":"hello"}\n');
      if (message.id === "hello" && !greeted) {
        greeted = true;
        socket.write(`${JSON.stringify({ execute: command, arguments: args, id: "command" })}\n`);
      }
      if (message.id !== "command") continue;
      if (message.error) throw new Error(`QEMU refused ${command}: ${message.error.desc}`);
      return message.return;
    }
    signal.throwIfAborted();
    throw new Error(`QEMU closed its monitor during ${command}`);
  } finally {
    signal.removeEventListener("abort", stop);
    socket.destroy();
  }
}
