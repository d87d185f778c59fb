import type { Budget } from "../budget.ts";
import { type Halves, PAGE_SIZE } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { isNull, readPointer, readU32 } from "./read.ts";

/** kernel/trace/ftrace.c: where functions begin that can be traced, the kernel's and those of modules, in groups of pages. */
const pagesStart = symbol("?ftrace_pages_start");
const ftracePage = struct("?ftrace_page", { next: "next", records: "records", index: "index" });
const dynFtrace = struct("?dyn_ftrace", { ip: "ip", flags: "flags" });

const MAX_GROUPS = 65_536;
/** Records that one group can have: 2^order pages of them (ftrace_allocate_records). */
const MAX_RECORDS = (PAGE_SIZE << 10) / 16;

export interface FtraceSites {
  /** Upper and lower halves of the places, as many as `count`. */
  readonly hi: Int32Array;
  readonly lo: Int32Array;
  readonly count: number;
  readonly complete: boolean;
}

/** The places of all calls of the tracer; undefined for a kernel without it. */
export function ftraceSites(kernel: Kernel, budget: Budget): FtraceSites | undefined {
  const { space } = kernel;
  const page = kernel.layout(ftracePage);
  const record = kernel.layout(dynFtrace);
  const start = kernel.optionalPlace(pagesStart);
  if (start === undefined || page.records < 0 || record.ip < 0 || record.sizeof === 0) return undefined;
  let hi = new Int32Array(1 << 16);
  let lo = new Int32Array(1 << 16);
  let count = 0;
  let at = readPointer(space, start);
  for (let groups = 0; at !== undefined && !isNull(at); groups++) {
    budget.spend();
    const records = readPointer(space, at, page.records);
    const used = readU32(space, at, page.index);
    if (records === undefined || used === undefined || used > MAX_RECORDS || groups === MAX_GROUPS)
      return { hi, lo, count, complete: false };
    while (count + used > hi.length) [hi, lo] = [grown(hi), grown(lo)];
    count += copyPlaces(kernel, records, used, hi, lo, count);
    budget.spend(1 + (used >>> 3));
    at = readPointer(space, at, page.next);
  }
  return { hi, lo, count, complete: at !== undefined };
}

function copyPlaces(
  kernel: Kernel,
  records: Halves,
  used: number,
  hi: Int32Array,
  lo: Int32Array,
  from: number,
): number {
  const { sizeof, ip } = kernel.layout(dynFtrace);
  const bytes = Buffer.alloc(used * sizeof);
  const whole = Math.floor(kernel.space.read(records.hi, records.lo, bytes) / sizeof);
  for (let i = 0; i < whole; i++) {
    lo[from + i] = bytes.readInt32LE(i * sizeof + ip);
    hi[from + i] = bytes.readInt32LE(i * sizeof + ip + 4);
  }
  return whole;
}

function grown(values: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(values.length * 2);
  larger.set(values);
  return larger;
}
