import { type FileHandle, open, rm } from "node:fs/promises";
import { Option } from "commander";
import { exitCode } from "../exit-code.ts";
import { CliError, usageError } from "../failure.ts";
import { formatAddress, formatBytes } from "../format/units.ts";
import { parseAddress, parseLength } from "../parse.ts";
import { startProgress } from "../progress.ts";
import type { CommonOptions } from "../session.ts";
import { groups } from "./command.ts";
import type { OneGuestCommand } from "./guest-command.ts";

interface StreamOptions extends CommonOptions {
  output: string;
  start: bigint;
  length?: bigint;
  force?: boolean;
}

/** Copies a range of guest physical memory into a file where offset = address - start; zeros and holes take no space. */
export const streamCommand: OneGuestCommand<[], StreamOptions> = {
  name: "stream",
  summary: "Copy physical memory into a sparse file.",
  description:
    "The offset in the file is the guest physical address minus --start, so that `cloudvmi local ps --memory FILE`\n" +
    "reads it. The guest keeps running meanwhile: `cloudvmi pause` first for a consistent image.",
  examples: ["stream VM --output web1.raw", "stream VM --output low.raw --start 0 --length 16M"],
  group: groups.memory,
  configure(command) {
    command
      .requiredOption("--output <file>", "file to write")
      .addOption(
        new Option("--start <address>", "first guest physical address").argParser(parseAddress).default(0n, "0"),
      )
      .option("--length <bytes>", "how much (default: to the end of RAM)", parseLength)
      .option("--force", "overwrite the file");
  },
  async run({ io, printer }, guest, options) {
    const file = await create(options.output, options.force === true);
    try {
      using progress = startProgress(io, "copying memory …");
      const total = { bytes: 0, zeros: 0, absent: 0 };
      let end = 0;
      const request = { start: options.start, length: options.length, signal: io.signal, reuse: true };
      for await (const piece of guest.streamMemory(request)) {
        let length: number;
        const offset = Number(piece.address - options.start);
        if ("data" in piece) {
          length = piece.data.length;
          await writeAll(file, piece.data, offset);
          total.bytes += length;
        } else if ("zeros" in piece) {
          length = Number(piece.zeros);
          total.zeros += length;
        } else {
          length = Number(piece.absent);
          total.absent += length;
        }
        end = offset + length;
        progress.update(`copied ${formatBytes(total.bytes)} of contents, at ${formatAddress(piece.address)} …`);
      }
      if (end === 0) throw new CliError(exitCode.guest, `there is no memory at ${formatAddress(options.start)}`);
      // Zeros and holes at the end are part of the image as well.
      await file.truncate(end);
      const row = {
        file: options.output,
        length: end,
        contents: total.bytes,
        zeros: total.zeros,
        not_ram: total.absent,
      };
      await printer.done(
        `Wrote ${options.output}: ${formatBytes(end)}, of which ${formatBytes(total.bytes)} with contents, ` +
          `${formatBytes(total.zeros)} zeros, ${formatBytes(total.absent)} not RAM.`,
        row,
      );
    } catch (error) {
      // A part of an image is easily taken for the whole.
      if ((await file.stat()).isFile()) await rm(options.output, { force: true });
      throw error;
    } finally {
      await file.close();
    }
  },
};

async function create(path: string, force: boolean): Promise<FileHandle> {
  try {
    // What is in memory is its owner's business alone.
    return await open(path, force ? "w" : "wx", 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    throw usageError(`${path} exists: choose another file, or --force to overwrite it`, error);
  }
}

/** A single write may take less than it was given. */
async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    at += (await file.write(bytes, at, bytes.length - at, position + at)).bytesWritten;
  }
}
