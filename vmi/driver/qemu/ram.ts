/** Finds the RAM of a running QEMU guest and opens it for reading. */
import { closeSync, constants, fstatSync, openSync, readdirSync } from "node:fs";
import type { Backing, GuestMemoryLayout, RamRange } from "../driver.ts";
import { parseCommandLine } from "./command-line.ts";
import { guessLayout } from "./layout-guess.ts";
import { parseMtree, type RamSection } from "./mtree.ts";
import { dataExtents } from "./native.ts";
import { type HostMapping, readArguments, readMaps, readWorkingDirectory, touchedPages } from "./process.ts";
import type { Qmp } from "./qmp.ts";

/** Guest RAM opened for reading; the descriptors are closed on dispose. */
export interface OpenedRam extends Disposable {
  readonly layout: GuestMemoryLayout;
}

/** The guest's memory can't be found or opened. The message is one line for people. */
export class RamError extends Error {
  override readonly name = "RamError";
}

/** Where a RAM block begins in the address space of its QEMU process. */
type BlockBases = ReadonlyMap<string, number>;

/**
 * Asks the monitor for the layout and opens the memory by the best means: what is shared (memfd, file, hugetlbfs)
 * is mapped by whoever gets the layout, anything else is read through /proc/PID/mem.
 * @param hint whether to find out which RAM has been touched at all: some milliseconds for each gigabyte.
 * @throws RamError, QmpError
 */
export async function findRam(qmp: Qmp, pid: number, hint = true): Promise<OpenedRam> {
  const sections = systemRam(parseMtree(await qmp.hmp("info mtree -f")), await memoryBackends(qmp));
  if (sections.length === 0) throw new RamError(`QEMU (pid ${pid}) reports no RAM for this VM`);
  const bases = new Map<string, number>();
  for (const section of sections) {
    if (bases.has(section.block)) continue;
    const answer = await qmp.hmp(`gpa2hva 0x${section.gpa.toString(16)}`);
    const hva = / is (0x[0-9a-f]+)/.exec(answer)?.[1];
    if (!hva) throw new RamError(`QEMU (pid ${pid}) does not say where ${section.block} is: ${answer.trim()}`);
    bases.set(section.block, Number.parseInt(hva, 16) - section.offset);
  }
  return openRam(pid, sections, bases, hint);
}

/**
 * Finds the memory of a PC without its monitor: its one mapping of the size of -m, split as QEMU splits it.
 * @throws RamError
 */
export function findRamWithoutMonitor(pid: number): OpenedRam {
  const line = parseCommandLine(readArguments(pid), readWorkingDirectory(pid));
  const sections = guessLayout(line.machine, line.memoryBytes, line.maxRamBelow4g);
  if (!sections)
    throw new RamError(`the memory layout of machine type "${line.machine}" can only be had by QMP: give --qmp SOCKET`);
  const candidates = joined(readMaps(pid)).filter(
    (mapping) => mapping.readable && mapping.writable && mapping.end - mapping.start === line.memoryBytes,
  );
  const [only] = candidates;
  if (!only) throw new RamError(`process ${pid} does not look like a VM of QEMU: if it is one, give --qmp SOCKET`);
  if (candidates.length > 1) {
    throw new RamError(
      `process ${pid} has ${candidates.length} mappings of its RAM's size (${line.memoryBytes} bytes), not one: give --qmp SOCKET`,
    );
  }
  return openRam(pid, sections, new Map([["ram", only.start]]), true);
}

/** Main memory, DIMMs and NUMA nodes, but not video memory and other RAM of devices. */
function systemRam(sections: RamSection[], backends: ReadonlySet<string>): RamSection[] {
  const main = sections[0]?.block;
  return sections.filter(({ block }) => block === main || backends.has(block));
}

async function memoryBackends(qmp: Qmp): Promise<Set<string>> {
  const answer = await qmp.execute("query-memdev");
  const ids = Array.isArray(answer) ? answer.map((item: unknown) => Reflect.get(Object(item), "id")) : [];
  return new Set(ids.filter((id) => typeof id === "string"));
}

/** Mappings that follow each other in the same file, or in no file, taken as one. */
function joined(mappings: readonly HostMapping[]): HostMapping[] {
  const result: HostMapping[] = [];
  for (const mapping of mappings) {
    const last = result.at(-1);
    const follows =
      last &&
      last.end === mapping.start &&
      last.readable === mapping.readable &&
      last.writable === mapping.writable &&
      last.shared === mapping.shared &&
      last.device === mapping.device &&
      last.inode === mapping.inode &&
      (mapping.inode === 0 || last.offset + (last.end - last.start) === mapping.offset);
    if (follows) result[result.length - 1] = { ...last, end: mapping.end };
    else result.push(mapping);
  }
  return result;
}

function openRam(pid: number, sections: readonly RamSection[], bases: BlockBases, hint: boolean): OpenedRam {
  const backings: Backing[] = [];
  const close = () => {
    for (const { fd } of backings) closeSync(fd);
    backings.length = 0;
  };
  try {
    const mappings = joined(readMaps(pid));
    const byInode = new Map<string, number>();
    let processMemory: number | undefined;
    const ranges: RamRange[] = [];
    const populated: { gpa: number; length: number }[] = [];
    for (const { gpa, length, block, offset } of sections) {
      const hva = bases.get(block)! + offset;
      const mapping = mappings.find(({ start, end }) => start <= hva && hva + length <= end);
      if (!mapping) throw new RamError(`process ${pid} has no mapping of its guest's RAM at 0x${hva.toString(16)}`);
      const backing =
        mapping.shared && mapping.inode !== 0 ? sharedBacking(pid, mapping, backings, byInode) : undefined;
      if (backing !== undefined) {
        const at = mapping.offset + hva - mapping.start;
        ranges.push({ gpa, length, backing, offset: at });
        if (hint) addExtents(populated, gpa, dataExtents(backings[backing]!.fd, at, length), at);
      } else {
        processMemory ??= backings.push({ kind: "process", fd: openSync(`/proc/${pid}/mem`, constants.O_RDONLY) }) - 1;
        ranges.push({ gpa, length, backing: processMemory, offset: hva });
        if (hint) addExtents(populated, gpa, touchedPages(pid, hva, length), 0);
      }
    }
    return { layout: { ranges, backings, ...(hint ? { populated } : {}) }, [Symbol.dispose]: close };
  } catch (error) {
    close();
    throw error instanceof RamError ? error : new RamError(explain(pid, error));
  }
}

/** The index of the backing that is the mapped file; undefined when it can't be opened, as on some file systems. */
function sharedBacking(
  pid: number,
  mapping: HostMapping,
  backings: Backing[],
  byInode: Map<string, number>,
): number | undefined {
  const key = `${mapping.device} ${mapping.inode}`;
  const known = byInode.get(key);
  if (known !== undefined) return known;
  const fd = openMapped(pid, mapping);
  if (fd === undefined) return undefined;
  const index = backings.push({ kind: "shared", fd }) - 1;
  byInode.set(key, index);
  return index;
}

/** Opens the file behind a mapping, read only: by one of the process's own descriptors, else by the mapping. */
function openMapped(pid: number, mapping: HostMapping): number | undefined {
  const names = readdirSync(`/proc/${pid}/fd`).map((name) => `fd/${name}`);
  names.push(`map_files/${mapping.start.toString(16)}-${mapping.end.toString(16)}`);
  for (const name of names) {
    let fd: number;
    try {
      // O_NONBLOCK: some of the other descriptors are pipes.
      fd = openSync(`/proc/${pid}/${name}`, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch {
      continue; // sockets, and what has been closed since
    }
    if (isMapped(fd, mapping)) return fd;
    closeSync(fd);
  }
  return undefined;
}

function isMapped(fd: number, mapping: HostMapping): boolean {
  const stat = fstatSync(fd);
  if (!stat.isFile() || stat.ino !== mapping.inode) return false;
  const major = (stat.dev >> 8) & 0xfff;
  const minor = (stat.dev & 0xff) | ((stat.dev >> 12) & 0xfff00);
  return mapping.device === `${major.toString(16).padStart(2, "0")}:${minor.toString(16).padStart(2, "0")}`;
}

/** Holes smaller than this are not worth an extent of their own. */
const smallHole = 64 * 1024;

function addExtents(
  populated: { gpa: number; length: number }[],
  gpa: number,
  extents: readonly { start: number; length: number }[],
  origin: number,
): void {
  for (const extent of extents) {
    const start = gpa + extent.start - origin;
    const last = populated.at(-1);
    if (last && start - (last.gpa + last.length) <= smallHole) last.length = start + extent.length - last.gpa;
    else populated.push({ gpa: start, length: extent.length });
  }
}

function explain(pid: number, error: unknown): string {
  const code: unknown = error instanceof Error ? Reflect.get(error, "code") : undefined;
  if (code === "EACCES" || code === "EPERM") {
    return `the memory of process ${pid} may not be read by this user: run as the user of the VM or as root`;
  }
  if (code === "ENOENT" || code === "ESRCH") return `process ${pid} has ended`;
  return `the memory of process ${pid} can't be opened: ${error instanceof Error ? error.message : String(error)}`;
}
