import { accessSync, constants, mkdtempSync, readdirSync, readlinkSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

const SHARED_MEMORY = "/dev/shm";

/** A new folder for the sockets and logs of one guest. Removes those of labs that were killed. */
export function newRunFolder(): string {
  sweep();
  return mkdtempSync(join(tmpdir(), prefixOf(process.pid)));
}

/** Path for RAM in a file: in memory where there is room, otherwise in the run folder. */
export function newRamFile(bytes: number, runFolder: string): string {
  try {
    accessSync(SHARED_MEMORY, constants.W_OK);
    const { bavail, bsize } = statfsSync(SHARED_MEMORY);
    if (bavail * bsize >= bytes) return join(SHARED_MEMORY, `${basename(runFolder)}.ram`);
  } catch {
    // Not to be had here: the same as full.
  }
  return join(runFolder, "ram");
}

/** Run folders carry their owner's process id and its namespace, so that those of the dead can be told. */
function prefixOf(pid: number): string {
  const namespace = /\d+/.exec(readlinkSync("/proc/self/ns/pid"))?.[0] ?? "0";
  return `cloudvmi-lab-${namespace}-${pid}-`;
}

/** Removes what labs left that were killed. */
function sweep(): void {
  for (const folder of [tmpdir(), SHARED_MEMORY]) {
    for (const name of listed(folder)) {
      const pid = /^cloudvmi-lab-\d+-(\d+)-/.exec(name)?.[1];
      if (!pid || !name.startsWith(prefixOf(Number(pid))) || running(Number(pid))) continue;
      try {
        rmSync(join(folder, name), { recursive: true, force: true });
      } catch {
        // Another user's.
      }
    }
  }
}

function listed(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function running(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
