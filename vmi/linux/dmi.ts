import type { Budget } from "../budget.ts";
import { PAGE_SHIFT } from "../bytes/address.ts";
import { symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { latin1, readNumber, readU32 } from "./read.ts";

/** drivers/firmware/dmi_scan.c: guest physical address and length of what the firmware tells of the machine. */
const dmiBase = symbol("?dmi_base");
const dmiLen = symbol("?dmi_len");

/** SMBIOS (DMTF DSP0134): a header of type, length and handle; then the structure; then strings that a zero ends. */
const HEADER = 4;
const PROCESSOR = 4;
const END_OF_TABLE = 127;
/** Of a processor, up to its status: SMBIOS 2.0. */
const PROCESSOR_LENGTH = 0x1a;
/** QEMU's take some hundred bytes. */
const MAX_TABLE = 1 << 20;
const PAGE_SIZE = 1 << PAGE_SHIFT;

/** What the firmware tells of a processor's package. */
export interface DmiProcessor {
  readonly socket: string;
  /** 3 for a central processor. */
  readonly type: number;
  readonly status: number;
  /** MHz; 0 where it is not known. */
  readonly maxMhz: number;
}

/** The processors that the firmware tells of, in its order. Undefined where it tells nothing, or that can't be read. */
export function dmiProcessors(kernel: Kernel, budget: Budget): DmiProcessor[] | undefined {
  const table = dmiTable(kernel, budget);
  if (table === undefined) return undefined;
  const found: DmiProcessor[] = [];
  for (let at = 0; at + HEADER <= table.length; ) {
    budget.spend();
    const type = table[at]!;
    const length = table[at + 1]!;
    if (length < HEADER || type === END_OF_TABLE) break;
    const strings = at + length;
    const end = endOfStrings(table, strings);
    if (type === PROCESSOR && length >= PROCESSOR_LENGTH && strings <= table.length) {
      const names = latin1(table.subarray(strings, end)).split("\0");
      found.push({
        socket: (names[table[at + 4]! - 1] ?? "").trimEnd(),
        type: table[at + 5]!,
        status: table[at + 0x18]!,
        maxMhz: table.readUInt16LE(at + 0x14),
      });
    }
    at = end;
  }
  return found;
}

function dmiTable(kernel: Kernel, budget: Budget): Buffer | undefined {
  const [base, length] = [kernel.optionalPlace(dmiBase), kernel.optionalPlace(dmiLen)];
  const start = base && readNumber(kernel.space, base);
  const size = length && readU32(kernel.space, length);
  if (start === undefined || size === undefined || !(start > 0) || size === 0 || size > MAX_TABLE) return undefined;
  budget.spend(1 + (size >>> PAGE_SHIFT));
  const table = Buffer.alloc(size);
  for (let done = 0; done < size; ) {
    const gpa = start + done;
    const bytes = kernel.memory.copy(gpa, Math.min(size - done, PAGE_SIZE - (gpa % PAGE_SIZE)));
    if (bytes === undefined) return undefined;
    table.set(bytes, done);
    done += bytes.length;
  }
  return table;
}

/** Behind the two zeros that end a structure's strings. */
function endOfStrings(table: Buffer, from: number): number {
  const end = table.indexOf(TWO_ZEROS, from);
  return end < 0 ? table.length : end + TWO_ZEROS.length;
}

const TWO_ZEROS = Buffer.from([0, 0]);
