import { GuestError } from "../errors.ts";
import { unpackKernel } from "./unpack.ts";

/** A section of the linked kernel, at the address that it was linked for. */
export interface Section {
  readonly name: string;
  /** Lower half of the address: all of the kernel is in the top 2 GiB. */
  readonly address: number;
  readonly bytes: Uint8Array;
}

/** Low halves of the addresses, as linked, of what moves with the kernel. */
export interface Relocations {
  /** 32-bit values that grow by how far it is moved. */
  readonly words: readonly number[];
  /** Those that shrink: distances to what does not move, per-CPU variables (none from 6.15 on: a23be6ccd8b9). */
  readonly inverse: readonly number[];
  /** 64-bit values. */
  readonly quads: readonly number[];
}

/** A kernel as it was built. */
export interface KernelFile {
  /** Hexadecimal digits; empty where the build had none. */
  readonly buildId: string;
  readonly sections: readonly Section[];
  /** What moves with the kernel; undefined where the file does not list it. */
  readonly relocations: Relocations | undefined;
}

/** ELF64 (System V ABI): places in the header, in a section's header, and numbers. */
const E_SHOFF = 0x28;
const E_SHENTSIZE = 0x3a;
const E_SHNUM = 0x3c;
const E_SHSTRNDX = 0x3e;
const SECTION_HEADER = 64;
const SHT_NOBITS = 8;
const SHF_ALLOC = 2;
const CLASS64_LE_X86_64 = 0x3e;
const TOP = 0xffff_ffff;
const MAX_SECTIONS = 4096;

const NOTES = ".notes";
const NT_GNU_BUILD_ID = 3;

/** Reads a kernel image as it is installed or linked. Throws GuestError "bad-request". */
export function readKernelFile(file: Uint8Array): KernelFile {
  const bytes = unpackKernel(file);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes[4] !== 2 || bytes[5] !== 1 || view.getUint16(0x12, true) !== CLASS64_LE_X86_64) throw damaged();
  try {
    const { sections, end } = sectionsOf(bytes, view);
    return { buildId: buildIdOf(sections), sections, relocations: relocationsBehind(bytes, end) };
  } catch (error) {
    if (error instanceof RangeError) throw damaged();
    throw error;
  }
}

function sectionsOf(bytes: Uint8Array, view: DataView): { sections: Section[]; end: number } {
  const table = Number(view.getBigUint64(E_SHOFF, true));
  const count = view.getUint16(E_SHNUM, true);
  if (view.getUint16(E_SHENTSIZE, true) !== SECTION_HEADER || count === 0 || count > MAX_SECTIONS) throw damaged();
  const header = (index: number) => {
    const at = table + index * SECTION_HEADER;
    return {
      name: view.getUint32(at, true),
      type: view.getUint32(at + 4, true),
      allocated: (view.getUint32(at + 8, true) & SHF_ALLOC) !== 0,
      lo: view.getUint32(at + 16, true),
      hi: view.getUint32(at + 20, true),
      offset: Number(view.getBigUint64(at + 24, true)),
      size: Number(view.getBigUint64(at + 32, true)),
    };
  };
  const strings = header(view.getUint16(E_SHSTRNDX, true));
  const nameAt = (offset: number) => {
    const start = strings.offset + offset;
    return Buffer.from(bytes.subarray(start, bytes.indexOf(0, start))).toString("latin1");
  };
  const sections: Section[] = [];
  let end = table + count * SECTION_HEADER;
  for (let index = 1; index < count; index++) {
    const { name, type, allocated, hi, lo, offset, size } = header(index);
    if (type === SHT_NOBITS) continue;
    if (offset + size > bytes.length) throw damaged();
    end = Math.max(end, offset + size);
    if (allocated && hi === TOP)
      sections.push({ name: nameAt(name), address: lo, bytes: bytes.subarray(offset, offset + size) });
  }
  return { sections, end };
}

/**
 * Behind the linked kernel, to be read from the end (arch/x86/boot/compressed/misc.c: handle_relocations): 32-bit values,
 * before them those that shrink, before them 64-bit values; a zero is before each list.
 */
function relocationsBehind(bytes: Uint8Array, end: number): Relocations | undefined {
  const count = Math.floor((bytes.length - end) / 4);
  if (count < 2) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset + bytes.length - count * 4, count * 4);
  const lists: number[][] = [[]];
  for (let at = count - 1; at >= 0; at--) {
    const value = view.getUint32(at * 4, true);
    if (value === 0) lists.push([]);
    else lists.at(-1)!.push(value);
  }
  // The last zero is before nothing.
  lists.pop();
  const [words = [], ...others] = lists;
  const [inverse = [], quads = []] = others.length > 1 ? others : [[], ...others];
  return { words, inverse, quads };
}

/** The note of `ld --build-id`. */
function buildIdOf(sections: readonly Section[]): string {
  const notes = sections.find(({ name }) => name === NOTES)?.bytes;
  if (notes === undefined) return "";
  const view = new DataView(notes.buffer, notes.byteOffset, notes.byteLength);
  for (let at = 0; at + 12 <= notes.length; ) {
    const [nameSize, size, type] = [
      view.getUint32(at, true),
      view.getUint32(at + 4, true),
      view.getUint32(at + 8, true),
    ];
    const name = Buffer.from(notes.subarray(at + 12, at + 12 + nameSize)).toString("latin1");
    const start = at + 12 + ((nameSize + 3) & ~3);
    if (type === NT_GNU_BUILD_ID && name === "GNU\0")
      return Buffer.from(notes.subarray(start, start + size)).toString("hex");
    at = start + ((size + 3) & ~3);
  }
  return "";
}

function damaged(): GuestError {
  return new GuestError("bad-request", "the kernel image that was supplied is damaged, or not one for x86-64");
}
