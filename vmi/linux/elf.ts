import type { Budget } from "../budget.ts";
import { PAGE_SIZE } from "../bytes/address.ts";

/** Bytes of a process's memory from an address on; undefined when not all are there. */
export type ReadBytes = (address: number, length: number) => Uint8Array | undefined;

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
export function sonameOf(base: number, read: ReadBytes, budget: Budget): Uint8Array | "none" | undefined {
  const dynamic = dynamicOf(base, read, budget);
  if (dynamic === undefined || dynamic === "none") return dynamic;
  const { strings, soname } = dynamic;
  if (strings === undefined || soname === undefined) return "none";
  const at = strings + soname;
  const text = read(at, MAX_NAME) ?? read(at, PAGE_SIZE - (at % PAGE_SIZE));
  const zero = text?.subarray(0, MAX_NAME).indexOf(0) ?? -1;
  return zero < 0 ? undefined : text?.subarray(0, zero);
}

/**
 * Whether a 64-bit ELF file that is mapped from `base` on gives others a symbol, or takes it from them; "none" when it has no
 * such symbols at all or is no such file, undefined when what tells is not in memory.
 */
export function hasDynamicSymbol(
  base: number,
  name: string,
  read: ReadBytes,
  budget: Budget,
): boolean | "none" | undefined {
  const dynamic = dynamicOf(base, read, budget);
  if (dynamic === undefined || dynamic === "none") return dynamic;
  const { strings, stringsSize = 0 } = dynamic;
  if (strings === undefined || stringsSize === 0 || stringsSize > MAX_STRINGS) return "none";
  budget.spend(1 + (stringsSize >>> 6));
  const names = read(strings, stringsSize);
  return names && Buffer.from(names.buffer, names.byteOffset, names.length).includes(`\0${name}\0`, 0, "latin1");
}

/** What the dynamic section says; addresses are those of the process. */
interface Dynamic {
  readonly strings: number | undefined;
  readonly stringsSize: number | undefined;
  /** Offset in the strings. */
  readonly soname: number | undefined;
}

function dynamicOf(base: number, read: ReadBytes, budget: Budget): Dynamic | "none" | undefined {
  const header = viewOf(read(base, HEADER));
  if (header === undefined) return undefined;
  if (header.getUint32(0, true) !== MAGIC || header.getUint16(4, false) !== CLASS_64_LITTLE) return "none";
  const count = Math.min(header.getUint16(56, true), MAX_PROGRAM_HEADERS);
  const entries = viewOf(read(base + Number(header.getBigUint64(32, true)), count * PROGRAM_HEADER));
  if (entries === undefined) return undefined;
  budget.spend(count);
  let bias: number | undefined;
  let dynamic: { at: number; length: number } | undefined;
  for (let i = 0; i < count; i++) {
    const at = i * PROGRAM_HEADER;
    const type = entries.getUint32(at, true);
    const address = Number(entries.getBigUint64(at + 16, true));
    if (type === PT_LOAD) bias ??= base - Math.floor(address / PAGE_SIZE) * PAGE_SIZE;
    if (type === PT_DYNAMIC) dynamic = { at: address, length: Number(entries.getBigUint64(at + 40, true)) };
  }
  if (bias === undefined || dynamic === undefined) return "none";
  const items = Math.min(Math.trunc(dynamic.length / 16), MAX_DYNAMIC);
  const table = viewOf(read(bias + dynamic.at, items * 16));
  if (table === undefined) return undefined;
  budget.spend(items);
  const values = new Map<number, number>();
  for (let i = 0; i < items; i++) {
    const tag = Number(table.getBigUint64(i * 16, true));
    if (tag === 0) break;
    values.set(tag, Number(table.getBigUint64(i * 16 + 8, true)));
  }
  const strings = values.get(DT_STRTAB);
  return {
    // The C library makes the address absolute where the table may be written to.
    strings: strings !== undefined && strings < base ? strings + bias : strings,
    stringsSize: values.get(DT_STRSZ),
    soname: values.get(DT_SONAME),
  };
}

function viewOf(bytes: Uint8Array | undefined): DataView | undefined {
  return bytes && new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
