/** The file that a process has mapped, opened anew for reading. */
import { closeSync, constants, fstatSync, openSync, readdirSync, type Stats, statSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import type { HostMapping } from "./process.ts";

/** Finds the files that a process has mapped. */
export interface SharedFiles {
  /** Read only; undefined when it can't be opened, as on some file systems. */
  open(mapping: HostMapping): Promise<number | undefined>;
}

/** Descriptors that are looked at in one turn of the event loop. */
const perTurn = 512;

export function sharedFilesOf(pid: number): SharedFiles {
  let names: Promise<Map<string, string>> | undefined;
  return {
    async open(mapping) {
      names ??= descriptorsOf(pid);
      const own = (await names).get(keyOf(mapping.device, mapping.inode));
      const mapped = `/proc/${pid}/map_files/${mapping.start.toString(16)}-${mapping.end.toString(16)}`;
      return (own === undefined ? undefined : openMapped(own, mapping)) ?? openMapped(mapped, mapping);
    },
  };
}

/**
 * The files among a process's descriptors, by device and inode. They are looked at, not opened: some are devices and
 * pipes, whose opening does something.
 */
async function descriptorsOf(pid: number): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const [i, name] of readdirSync(`/proc/${pid}/fd`).entries()) {
    if (i % perTurn === perTurn - 1) await setImmediate();
    const path = `/proc/${pid}/fd/${name}`;
    const stat = fileAt(path);
    if (stat) found.set(keyOf(deviceOf(stat), stat.ino), path);
  }
  return found;
}

function openMapped(path: string, { device, inode }: HostMapping): number | undefined {
  const isMapped = (stat: Stats) => stat.isFile() && keyOf(deviceOf(stat), stat.ino) === keyOf(device, inode);
  const stat = fileAt(path);
  if (!stat || !isMapped(stat)) return undefined;
  let fd: number;
  try {
    // O_NONBLOCK: it may have become a pipe since.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return undefined; // closed since, or not to be opened by this user
  }
  if (isMapped(fstatSync(fd))) return fd;
  closeSync(fd);
  return undefined;
}

function fileAt(path: string): Stats | undefined {
  try {
    const stat = statSync(path);
    return stat.isFile() ? stat : undefined;
  } catch {
    return undefined; // closed since
  }
}

function keyOf(device: string, inode: number): string {
  return `${device} ${inode}`;
}

/** As /proc/PID/maps has it. */
function deviceOf({ dev }: Stats): string {
  const major = (dev >> 8) & 0xfff;
  const minor = (dev & 0xff) | ((dev >> 12) & 0xfff00);
  return `${major.toString(16).padStart(2, "0")}:${minor.toString(16).padStart(2, "0")}`;
}
