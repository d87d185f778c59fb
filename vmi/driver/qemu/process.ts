/** What /proc tells of a QEMU process. */
import { readFileSync, readlinkSync } from "node:fs";
import { open } from "node:fs/promises";
import type { Extent } from "./populated.ts";

/** A line of /proc/PID/maps. */
export interface HostMapping {
  readonly start: number;
  readonly end: number;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly shared: boolean;
  /** Offset in the mapped file. */
  readonly offset: number;
  /** Device as "major:minor" in hexadecimal, and inode; inode 0: anonymous. */
  readonly device: string;
  readonly inode: number;
  readonly path: string;
}

export function parseMaps(text: string): HostMapping[] {
  const mappings: HostMapping[] = [];
  for (const row of text.split("\n")) {
    const match = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) (\S+) (\d+) *(.*)$/.exec(row);
    if (!match) continue;
    const flags = match[3]!;
    mappings.push({
      start: Number.parseInt(match[1]!, 16),
      end: Number.parseInt(match[2]!, 16),
      readable: flags[0] === "r",
      writable: flags[1] === "w",
      shared: flags[3] === "s",
      offset: Number.parseInt(match[4]!, 16),
      device: match[5]!,
      inode: Number(match[6]),
      path: match[7]!,
    });
  }
  return mappings;
}

export function readMaps(pid: number): HostMapping[] {
  return parseMaps(readFileSync(`/proc/${pid}/maps`, "latin1"));
}

export function readArguments(pid: number): string[] {
  return readFileSync(`/proc/${pid}/cmdline`, "utf8").replace(/\0$/, "").split("\0");
}

export function readWorkingDirectory(pid: number): string {
  return readlinkSync(`/proc/${pid}/cwd`);
}

/** When the process started, in clock ticks since the host's boot: with its pid it names it for this boot. */
export function readStartTime(pid: number): string {
  // The second field, in parentheses, may itself hold spaces and parentheses.
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const start = fields[19];
  if (!start || !/^\d+$/.test(start)) throw new Error(`/proc/${pid}/stat has no start time`);
  return start;
}

/** Pages that are asked for at once: 1 MiB of answer, which takes a moment to look through. */
const pagesAtOnce = 131_072;

/**
 * Which of a process's pages have ever been touched, as extents of bytes relative to `start`, in order; one that is longer
 * than what is read at once comes in parts.
 * Source: Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bit 62 swapped.
 */
export async function* touchedPages(pid: number, start: number, length: number): AsyncGenerator<Extent[], void> {
  await using file = await open(`/proc/${pid}/pagemap`, "r");
  const pages = length / 4096;
  const batch = Buffer.alloc(Math.min(pages, pagesAtOnce) * 8);
  const words = new Uint32Array(batch.buffer, batch.byteOffset, batch.length / 4);
  for (let page = 0; page < pages; ) {
    const want = Math.min(batch.length, (pages - page) * 8);
    const { bytesRead } = await file.read(batch, 0, want, (start / 4096 + page) * 8);
    const got = Math.floor(bytesRead / 8);
    if (got === 0) break;
    yield touchedOf(words.subarray(0, 2 * got), page);
    page += got;
  }
}

/** @param first the page that the words begin with. */
function touchedOf(words: Uint32Array, first: number): Extent[] {
  const extents: Extent[] = [];
  const pages = words.length / 2;
  let from = -1;
  for (let i = 0; i <= pages; i++) {
    const touched = i < pages && (words[2 * i + 1]! & 0xc0000000) !== 0;
    if (touched === from >= 0) continue;
    if (touched) {
      from = i;
    } else {
      extents.push({ start: (first + from) * 4096, length: (i - from) * 4096 });
      from = -1;
    }
  }
  return extents;
}
