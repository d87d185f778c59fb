import type { Budget } from "../budget.ts";
import { PAGE_SHIFT, PAGE_SIZE } from "../bytes/address.ts";
import type { AddressSpace } from "../memory/address-space.ts";

/** include/uapi/linux/elf.h; System V ABI, chapters 4 and 5. */
const MAGIC = 0x464c_457f;
/** ELFCLASS64 and ELFDATA2LSB. */
const CLASS_64_LITTLE = 0x0201;
const HEADER = 64;
const PROGRAM_HEADER = 56;
const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const DT_STRTAB = 5;
const DT_STRSZ = 10;
const DT_SONAME = 14;
const MAX_PROGRAM_HEADERS = 64;
const MAX_DYNAMIC = 1024;
const MAX_NAME = 256;
const MAX_STRINGS = 4 << 20;

/**
 * DT_SONAME of a 64-bit ELF file that is mapped from `base` on; "none" when it has none or is no such file, undefined when
 * what tells is not in memory.
 */
export function sonameOf(space: AddressSpace, base: number, budget: Budget): Uint8Array | "none" | undefined {
  const dynamic = dynamicOf(space, base, budget);
  if (dynamic === undefined || dynamic === "none") return dynamic;
  const { strings, soname } = dynamic;
  if (strings === undefined || soname === undefined) return "none";
  const at = strings + soname;
  const rest = Math.min(MAX_NAME, PAGE_SIZE - (at % PAGE_SIZE));
  const text = copy(space, at, MAX_NAME) ?? copy(space, at, rest);
  const zero = text?.indexOf(0) ?? -1;
  return zero < 0 ? undefined : text?.subarray(0, zero);
}

/**
 * Whether a 64-bit ELF file that is mapped from `base` on gives others a symbol, or takes it from them, or one whose name ends
 * so: linkers let names share their ends. "none" when it has no such symbols at all or is no such file, undefined when
 * what tells is not in memory.
 *
 * @param searched what was found of one name, by the frames that the names are in: processes that run one program share them
 */
export function hasDynamicSymbol(
  space: AddressSpace,
  base: number,
  name: string,
  searched: Map<string, boolean>,
  budget: Budget,
): boolean | "none" | undefined {
  const dynamic = dynamicOf(space, base, budget);
  if (dynamic === undefined || dynamic === "none") return dynamic;
  const { strings, stringsSize = 0 } = dynamic;
  if (strings === undefined || stringsSize === 0 || stringsSize > MAX_STRINGS) return "none";
  budget.spend(1 + (stringsSize >>> PAGE_SHIFT));
  const frames = framesOf(space, strings, stringsSize);
  let found = searched.get(frames);
  if (found !== undefined) return found;
  budget.spend(stringsSize >>> 6);
  const names = copy(space, strings, stringsSize);
  if (names === undefined) return undefined;
  found = names.includes(`${name}\0`, 0, "latin1");
  searched.set(frames, found);
  return found;
}

/** Where bytes are in the guest's memory: the same text for none but the same bytes. */
function framesOf(space: AddressSpace, address: number, length: number): string {
  const frames = [address % PAGE_SIZE, length];
  for (let at = address - (address % PAGE_SIZE); at < address + length; at += PAGE_SIZE)
    frames.push(Number.isSafeInteger(at) ? space.physical(Math.floor(at / U32) | 0, at | 0) : -1);
  return frames.join();
}

/** What the dynamic section says; addresses are those of the process. */
interface Dynamic {
  readonly strings: number | undefined;
  readonly stringsSize: number | undefined;
  /** Offset in the strings. */
  readonly soname: number | undefined;
}

function dynamicOf(space: AddressSpace, base: number, budget: Budget): Dynamic | "none" | undefined {
  const { view } = space.memory;
  // Exact: what is no address of a process is not mapped.
  const u64 = (index: number) => view.getUint32(index + 4, true) * U32 + view.getUint32(index, true);
  const header = indexOf(space, base, HEADER);
  if (header < 0) return undefined;
  if (view.getUint32(header, true) !== MAGIC || view.getUint16(header + 4, false) !== CLASS_64_LITTLE) return "none";
  const count = Math.min(view.getUint16(header + 56, true), MAX_PROGRAM_HEADERS);
  const entries = indexOf(space, base + u64(header + 32), count * PROGRAM_HEADER);
  if (entries < 0) return undefined;
  budget.spend(count);
  let bias: number | undefined;
  let dynamic: { at: number; length: number } | undefined;
  for (let at = entries; at < entries + count * PROGRAM_HEADER; at += PROGRAM_HEADER) {
    const type = view.getUint32(at, true);
    const address = u64(at + 16);
    if (type === PT_LOAD) bias ??= base - Math.floor(address / PAGE_SIZE) * PAGE_SIZE;
    if (type === PT_DYNAMIC) dynamic = { at: address, length: u64(at + 40) };
  }
  if (bias === undefined || dynamic === undefined) return "none";
  const items = Math.min(Math.trunc(dynamic.length / 16), MAX_DYNAMIC);
  const table = indexOf(space, bias + dynamic.at, items * 16);
  if (table < 0) return undefined;
  budget.spend(items);
  let strings: number | undefined;
  let stringsSize: number | undefined;
  let soname: number | undefined;
  for (let at = table; at < table + items * 16; at += 16) {
    const tag = u64(at);
    if (tag === 0) break;
    if (tag === DT_STRTAB) strings = u64(at + 8);
    else if (tag === DT_STRSZ) stringsSize = u64(at + 8);
    else if (tag === DT_SONAME) soname = u64(at + 8);
  }
  // The C library makes the address absolute where the table may be written to.
  if (strings !== undefined && strings < base) strings += bias;
  return { strings, stringsSize, soname };
}

const U32 = 0x1_0000_0000;

/** Index into the memory's view until the next call; -1 when not all of the bytes are there. */
function indexOf(space: AddressSpace, address: number, length: number): number {
  return Number.isSafeInteger(address) ? space.borrow(Math.floor(address / U32) | 0, address | 0, length) : -1;
}

/** Undefined when not all of the bytes are there. */
function copy(space: AddressSpace, address: number, length: number): Buffer | undefined {
  if (!Number.isSafeInteger(address)) return undefined;
  const bytes = Buffer.allocUnsafe(length);
  return space.read(Math.floor(address / U32) | 0, address | 0, bytes) === length ? bytes : undefined;
}
