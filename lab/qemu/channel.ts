import type { Socket } from "node:net";
import { connectTo } from "./socket.ts";

/** Kinds of request that lab/guest/control.py answers. */
const kinds = { hello: "H", run: "E", files: "F", truth: "T" } as const;

/** An answer of the guest's control program. */
export interface Answer {
  /** Exit status of a command; 0 for other requests. */
  status: number;
  data: Buffer;
}

interface Waiting {
  resolve: (answer: Answer) => void;
  reject: (error: Error) => void;
}

/** The connection to the control program inside a guest. Requests are answered in the order they were made. */
export interface Channel {
  request(kind: keyof typeof kinds, payload: Uint8Array | string, signal: AbortSignal): Promise<Answer>;
  close(): void;
}

/** Connects; the guest need not be up yet: requests wait for it. */
export async function openChannel(path: string, signal: AbortSignal): Promise<Channel> {
  const socket = await connectTo(path, signal);
  const waiting = new Map<number, Waiting>();
  let next = 1;
  receiveFrames(socket, (id, answer) => {
    waiting.get(id)?.resolve(answer);
    waiting.delete(id);
  });
  socket.on("close", () => {
    for (const { reject } of waiting.values())
      reject(new Error("the guest's control channel closed: QEMU ended or the guest was reset"));
    waiting.clear();
  });
  return {
    async request(kind, payload, abort) {
      abort.throwIfAborted();
      if (socket.destroyed) throw new Error("the guest's control channel is closed");
      const id = next++;
      const body = Buffer.from(payload);
      const head = Buffer.alloc(9);
      head.writeUInt32LE(body.length + 5, 0);
      head.writeUInt32LE(id, 4);
      head.write(kinds[kind], 8, "latin1");
      const answer = Promise.withResolvers<Answer>();
      const stop = () => answer.reject(new Error(`the guest did not answer "${kind}" in time`));
      abort.addEventListener("abort", stop);
      waiting.set(id, answer);
      socket.write(Buffer.concat([head, body]));
      try {
        const { status, data } = await answer.promise;
        if (status === -1000) throw new Error(`the guest's control program failed: ${data.toString()}`);
        return { status, data };
      } finally {
        abort.removeEventListener("abort", stop);
        waiting.delete(id);
      }
    },
    close: () => socket.destroy(),
  };
}

function receiveFrames(socket: Socket, take: (id: number, answer: Answer) => void): void {
  const parts: Buffer[] = [];
  let held = 0;
  socket.on("data", (part: Buffer) => {
    parts.push(part);
    held += part.length;
    while (held >= 4) {
      // Joined only when a frame is whole: an answer of megabytes comes in many parts.
      if (parts[0]!.length < 4) parts.splice(0, parts.length, Buffer.concat(parts));
      const length = parts[0]!.readUInt32LE(0);
      if (held < length + 4) return;
      const all = Buffer.concat(parts);
      const rest = all.subarray(length + 4);
      take(all.readUInt32LE(4), { status: all.readInt32LE(8), data: all.subarray(12, length + 4) });
      parts.splice(0, parts.length, rest);
      held = rest.length;
    }
  });
}
