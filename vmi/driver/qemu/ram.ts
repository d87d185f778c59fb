/** Finds the RAM of a running QEMU guest and opens it for reading. */
import { closeSync, constants, openSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import type { Backing, GuestMemoryLayout, RamRange } from "../driver.ts";
import { parseCommandLine } from "./command-line.ts";
import { guessLayout } from "./layout-guess.ts";
import { parseMtree, type RamSection } from "./mtree.ts";
import { dataExtents } from "./native.ts";
import { createPopulated, type Populated } from "./populated.ts";
import { type HostMapping, readArguments, readMaps, readWorkingDirectory, touchedPages } from "./process.ts";
import type { Qmp } from "./qmp.ts";
import { type SharedFiles, sharedFilesOf } from "./shared-file.ts";

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
 * @param hint whether to find out which RAM has been touched at all: some milliseconds for each gigabyte. Above 1 TiB it is not.
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
export async function findRamWithoutMonitor(pid: number): Promise<OpenedRam> {
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

/** More RAM than this no VM has: it is what 46 bits address. A hostile QEMU can map as much of nothing as it likes. */
const mostRam = 64 * 2 ** 40;
/** What bounds physical addresses on x86-64. */
const maxAddress = 2 ** 52;
/** With more RAM it takes longer to find out what has been touched, at 8 bytes a page, than that is worth. */
const maxHinted = 2 ** 40;
/** Files that RAM may be in: QEMU has 256 slots for memory. Each takes a descriptor of ours. */
const maxFiles = 256;
/** Extents that are found in one turn of the event loop. */
const extentsPerTurn = 1024;

function sizeOf(pid: number, sections: readonly RamSection[]): number {
  let total = 0;
  for (const { gpa, length } of sections) {
    if (length <= 0 || gpa + length > maxAddress)
      throw new RamError(`QEMU (pid ${pid}) reports RAM at 0x${gpa.toString(16)} where no x86-64 machine can have any`);
    total += length;
  }
  if (total > mostRam) {
    const size = Math.ceil(total / 2 ** 40);
    throw new RamError(
      `QEMU (pid ${pid}) reports ${size} TiB of RAM; a VM of more than ${mostRam / 2 ** 40} TiB can't be read`,
    );
  }
  return total;
}

async function openRam(
  pid: number,
  sections: readonly RamSection[],
  bases: BlockBases,
  hint: boolean,
): Promise<OpenedRam> {
  const populated = sizeOf(pid, sections) <= maxHinted && hint ? createPopulated() : undefined;
  const backings: Backing[] = [];
  const close = () => {
    for (const { fd } of backings) closeSync(fd);
    backings.length = 0;
  };
  try {
    const mappings = joined(readMaps(pid));
    const files = sharedFilesOf(pid);
    const byInode = new Map<string, number>();
    let processMemory: number | undefined;
    const ranges: RamRange[] = [];
    for (const { gpa, length, block, offset } of sections) {
      const hva = bases.get(block)! + offset;
      const mapping = mappingAt(mappings, hva);
      if (!mapping || hva + length > mapping.end)
        throw new RamError(`process ${pid} has no mapping of its guest's RAM at 0x${hva.toString(16)}`);
      const backing =
        mapping.shared && mapping.inode !== 0 ? await sharedBacking(files, mapping, backings, byInode) : undefined;
      if (backing !== undefined) {
        const at = mapping.offset + hva - mapping.start;
        ranges.push({ gpa, length, backing, offset: at });
        if (populated) await addData(populated, gpa, backings[backing]!.fd, at, length);
      } else {
        processMemory ??= backings.push({ kind: "process", fd: openSync(`/proc/${pid}/mem`, constants.O_RDONLY) }) - 1;
        ranges.push({ gpa, length, backing: processMemory, offset: hva });
        if (populated) {
          for await (const extents of touchedPages(pid, hva, length))
            for (const extent of extents) populated.add(gpa + extent.start, extent.length);
        }
      }
    }
    return {
      layout: { ranges, backings, ...(populated && { populated: populated.extents }) },
      [Symbol.dispose]: close,
    };
  } catch (error) {
    close();
    throw error instanceof RamError ? error : new RamError(explain(pid, error));
  }
}

/** The mapping that an address is in, of mappings in the order of their addresses. */
function mappingAt(mappings: readonly HostMapping[], address: number): HostMapping | undefined {
  let [low, high] = [0, mappings.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (mappings[middle]!.end > address) high = middle;
    else low = middle + 1;
  }
  const found = mappings[low];
  return found && found.start <= address ? found : undefined;
}

/** The index of the backing that is the mapped file; undefined when it can't be opened. */
async function sharedBacking(
  files: SharedFiles,
  mapping: HostMapping,
  backings: Backing[],
  byInode: Map<string, number>,
): Promise<number | undefined> {
  const key = `${mapping.device} ${mapping.inode}`;
  const known = byInode.get(key);
  if (known !== undefined) return known;
  if (byInode.size === maxFiles) throw new RamError(`the VM's RAM is in more than ${maxFiles} files`);
  const fd = await files.open(mapping);
  if (fd === undefined) return undefined;
  const index = backings.push({ kind: "shared", fd }) - 1;
  byInode.set(key, index);
  return index;
}

async function addData(populated: Populated, gpa: number, fd: number, at: number, length: number): Promise<void> {
  let found = 0;
  for (const extent of dataExtents(fd, at, length)) {
    populated.add(gpa + extent.start - at, extent.length);
    if (++found % extentsPerTurn === 0) await setImmediate();
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
