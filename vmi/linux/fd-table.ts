import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { struct } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { isNull, readPointer, readU32, sameAddress } from "./read.ts";

/** include/linux/fdtable.h */
const filesStruct = struct("files_struct", { fdt: "fdt" });
const fdtable = struct("fdtable", { max_fds: "max_fds", fd: "fd", open_fds: "open_fds" });

/** Default of fs.nr_open; more than that is told as a table that can't be read. */
const MAX_FDS = 1 << 20;
const WORD_BITS = 32;
const POINTER = 8;

/** The file that a descriptor of a struct files_struct is of; undefined when it is closed, or can't be read. */
export function openFile(kernel: Kernel, files: Halves, fd: number): Halves | undefined {
  const { space } = kernel;
  const table = readPointer(space, files, kernel.layout(filesStruct).fdt);
  const array = table && readPointer(space, table, kernel.layout(fdtable).fd);
  const file = array && readPointer(space, array, fd * POINTER);
  return file === undefined || isNull(file) ? undefined : file;
}

/** Whether a descriptor is of a file still. */
export function isOpen(kernel: Kernel, files: Halves, fd: number, file: Halves): boolean {
  const now = openFile(kernel, files, fd);
  return now !== undefined && sameAddress(now, file);
}

/**
 * Visits the open files of a struct files_struct by ascending descriptor. The bitmap of open descriptors tells which
 * entries to look at: a descriptor that is reserved but not installed yet has a null pointer, and is left out.
 *
 * @param visit returns false to stop
 * @returns false when part of the table could not be read
 */
export function walkOpenFiles(
  kernel: Kernel,
  files: Halves,
  budget: Budget,
  visit: (fd: number, file: Halves) => boolean,
): boolean {
  const { space } = kernel;
  const layout = kernel.layout(fdtable);
  const table = readPointer(space, files, kernel.layout(filesStruct).fdt);
  if (table === undefined || isNull(table)) return false;
  const maximum = readU32(space, table, layout.max_fds);
  const array = readPointer(space, table, layout.fd);
  const bits = readPointer(space, table, layout.open_fds);
  if (maximum === undefined || maximum > MAX_FDS || array === undefined || bits === undefined) return false;
  for (let base = 0; base < maximum; base += WORD_BITS) {
    budget.spend();
    let word = readU32(space, bits, base / 8);
    if (word === undefined) return false;
    while (word !== 0) {
      const fd = base + 31 - Math.clz32(word & -word);
      word &= word - 1;
      if (fd >= maximum) break;
      budget.spend();
      const file = readPointer(space, array, fd * POINTER);
      if (file === undefined) return false;
      if (!isNull(file) && !visit(fd, file)) return true;
    }
  }
  return true;
}
