import { addAbortSignal } from "node:stream";
import type { ReadStream } from "node:tty";
import { exitCode } from "./exit-code.ts";
import { CliError, usageError } from "./failure.ts";
import type { Io } from "./io.ts";

/** Far beyond any token: an endless stream given by mistake ends here. */
const longest = 65_536;

/** Everything from the standard input. */
export async function readAll({ stdin, signal }: Io): Promise<string> {
  let text = "";
  for await (const chunk of addAbortSignal(signal, stdin)) {
    text += String(chunk);
    if (text.length > longest) throw usageError("that is too long for a token");
  }
  return text;
}

/** Asks on the terminal without showing what is typed. */
export async function askHidden(io: Io, question: string): Promise<string> {
  const terminal = io.stdin as ReadStream;
  await io.err.write(question);
  terminal.setRawMode(true);
  try {
    return await new Promise<string>((resolve, reject) => {
      let typed = "";
      io.signal.addEventListener("abort", () => reject(new CliError(exitCode.failed, "interrupted")), { once: true });
      terminal.setEncoding("utf8");
      terminal.on("data", (chunk: string) => {
        for (const character of chunk) {
          if (character === "\r" || character === "\n" || character === "\x04") return resolve(typed);
          // In raw mode Ctrl-C arrives as a character.
          if (character === "\x03") return reject(new CliError(exitCode.failed, "interrupted"));
          if (character === "\x7f" || character === "\b") typed = typed.slice(0, -1);
          else if (typed.length < longest) typed += character;
        }
      });
    });
  } finally {
    terminal.setRawMode(false);
    terminal.removeAllListeners("data");
    terminal.pause();
    await io.err.write("\n");
  }
}
