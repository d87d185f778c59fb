/** What /proc tells of a QEMU process. */
import { closeSync, openSync, readFileSync, readlinkSync, readSync } from "node:fs";

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

/**
 * Which of a process's pages have ever been touched, as extents of bytes relative to `start`.
 * Source: Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bit 62 swapped.
 */
export function touchedPages(pid: number, start: number, length: number): { start: number; length: number }[] {
  const fd = openSync(`/proc/${pid}/pagemap`, "r");
  try {
    const extents: { start: number; length: number }[] = [];
    const pages = length / 4096;
    const batch = Buffer.alloc(Math.min(pages, 131_072) * 8);
    const words = new Uint32Array(batch.buffer, batch.byteOffset, batch.length / 4);
    let open = -1;
    for (let page = 0; page < pages; ) {
      const want = Math.min(batch.length, (pages - page) * 8);
      const got = Math.floor(readSync(fd, batch, 0, want, (start / 4096 + page) * 8) / 8);
      if (got === 0) break;
      for (let i = 0; i < got; i++) {
        if ((words[2 * i + 1]! & 0xc0000000) !== 0) {
          if (open < 0) open = page + i;
        } else if (open >= 0) {
          extents.push({ start: open * 4096, length: (page + i - open) * 4096 });
          open = -1;
        }
      }
      page += got;
    }
    if (open >= 0) extents.push({ start: open * 4096, length: (pages - open) * 4096 });
    return extents;
  } finally {
    closeSync(fd);
  }
}
