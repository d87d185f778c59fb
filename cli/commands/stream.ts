import { randomBytes } from "node:crypto";
import { type FileHandle, open, realpath, rename, rm, stat } from "node:fs/promises";
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
    const image = await create(options.output, options.force === true);
    const total = { bytes: 0, zeros: 0, absent: 0 };
    let end = 0;
    try {
      using progress = startProgress(io, "copying memory …");
      const request = { start: options.start, length: options.length, signal: io.signal, reuse: true };
      for await (const piece of guest.streamMemory(request)) {
        let length: number;
        const offset = Number(piece.address - options.start);
        if ("data" in piece) {
          length = piece.data.length;
          await writeAll(image.file, piece.data, offset);
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
      await image.file.truncate(end);
      await image.keep();
    } catch (error) {
      // A part of an image is easily taken for the whole.
      await image.discard();
      throw error;
    } finally {
      await image.file.close();
    }
    await printer.done(
      `Wrote ${options.output}: ${formatBytes(end)}, of which ${formatBytes(total.bytes)} with contents, ` +
        `${formatBytes(total.zeros)} zeros, ${formatBytes(total.absent)} not RAM.`,
      { file: options.output, length: end, contents: total.bytes, zeros: total.zeros, not_ram: total.absent },
    );
  },
};

interface Image {
  readonly file: FileHandle;
  /** The image is whole: it takes its place. */
  keep(): Promise<void>;
  /** Leaves everything as it was. */
  discard(): Promise<void>;
}

/** What is in memory is its owner's business alone. */
const OWNER_ONLY = 0o600;

/** Opens a new file; with `force` also one that exists, which stays as it is until the new one is whole. */
async function create(path: string, force: boolean): Promise<Image> {
  const existing = await stat(path).catch(() => undefined);
  if (existing === undefined || !force) {
    const file = await open(path, "wx", OWNER_ONLY).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
      throw usageError(`${path} exists: choose another file, or --force to overwrite it`, error);
    });
    return { file, keep: async () => {}, discard: () => rm(path, { force: true }) };
  }
  if (!existing.isFile()) throw usageError(`${path} is not a file: an image has holes, which only a file can have`);
  const place = await realpath(path);
  const beside = `${place}.${randomBytes(4).toString("hex")}.part`;
  const file = await open(beside, "wx", OWNER_ONLY);
  return { file, keep: () => rename(beside, place), discard: () => rm(beside, { force: true }) };
}

/** A single write may take less than it was given. */
async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    at += (await file.write(bytes, at, bytes.length - at, position + at)).bytesWritten;
  }
}
