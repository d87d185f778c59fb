import type { Readable } from "node:stream";

/** Where output goes. Tests give their own. */
export interface Output {
  write(chunk: string | Uint8Array): Promise<void>;
  readonly isTerminal: boolean;
  /** Terminal cells a line has; only for terminals. */
  readonly columns: number;
}

/** Everything a command may touch of the process it runs in. */
export interface Io {
  readonly out: Output;
  readonly err: Output;
  readonly stdin: Readable & { isTTY?: boolean };
  readonly env: NodeJS.ProcessEnv;
  /** The file that was started, for starting another process of this program. */
  readonly entry: string;
  /** Aborted when the user interrupts. */
  readonly signal: AbortSignal;
}

export function outputTo(stream: NodeJS.WriteStream): Output {
  return {
    write: (chunk) =>
      new Promise((resolve, reject) => {
        stream.write(chunk, (error) => (error ? reject(error) : resolve()));
      }),
    isTerminal: stream.isTTY === true,
    get columns() {
      return stream.columns ?? 80;
    },
  };
}

/** https://no-color.org, and TERM=dumb. */
export function usesColour(output: Output, env: NodeJS.ProcessEnv): boolean {
  return output.isTerminal && !env.NO_COLOR && env.TERM !== "dumb";
}
