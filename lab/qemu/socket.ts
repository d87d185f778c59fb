import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** Connects to a unix socket that may not be there yet. */
export async function connectTo(path: string, signal: AbortSignal): Promise<Socket> {
  while (true) {
    signal.throwIfAborted();
    const socket = connect(path);
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once("connect", resolve);
        socket.once("error", reject);
      });
      socket.on("error", () => socket.destroy());
      return socket;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== "ENOENT" && code !== "ECONNREFUSED") throw error;
      await sleep(10, undefined, { signal });
    }
  }
}
