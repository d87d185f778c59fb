import { Readable } from "node:stream";
import { run } from "../run.ts";

export interface Captured {
  code: number;
  out: string;
  err: string;
}

export interface CaptureOptions {
  env?: NodeJS.ProcessEnv;
  stdin?: string;
  /** Pretends to be a terminal of this many cells. */
  terminal?: number;
  signal?: AbortSignal;
  /** Nothing can be written to stdout, as on a disk that is full. */
  outFails?: boolean;
}

/** Runs a command line in this process and returns what it printed. Nothing of the real environment is seen. */
export async function capture(words: readonly string[], options: CaptureOptions = {}): Promise<Captured> {
  const printed = { out: [] as Buffer[], err: [] as Buffer[] };
  const output = (into: Buffer[]) => ({
    isTerminal: options.terminal !== undefined,
    columns: options.terminal ?? 80,
    write: async (chunk: string | Uint8Array) => void into.push(Buffer.from(chunk as string)),
  });
  const code = await run(words, {
    out: options.outFails
      ? { ...output([]), write: () => Promise.reject(new Error("no space left")) }
      : output(printed.out),
    err: output(printed.err),
    stdin: Readable.from(options.stdin === undefined ? [] : [options.stdin]),
    env: { NO_COLOR: "1", ...options.env },
    entry: "",
    signal: options.signal ?? new AbortController().signal,
  });
  return { code, out: Buffer.concat(printed.out).toString(), err: Buffer.concat(printed.err).toString() };
}
