import type { Budget } from "../budget.ts";
import { type Halves, hiOf, loOf } from "../bytes/address.ts";
import { symbol } from "../symbols/specs.ts";
import type { Kernel, Place } from "./kernel.ts";
import { inKernelText } from "./kernel-address.ts";
import { isNull, plus, readPointer, sameAddress } from "./read.ts";
import { syscallFunction, syscallName } from "./syscall-names.ts";

/** arch/x86/entry/syscall_64.c, syscall_32.c (both also under common/ and with other names before). */
const tables = [
  { abi: "64", symbol: symbol("?sys_call_table"), dispatcher: symbol("?x64_sys_call") },
  /** Gone where ia32_sys_call() took over. */
  { abi: "32", symbol: symbol("?ia32_sys_call_table"), dispatcher: symbol("?ia32_sys_call") },
  /** From 5.8 (6365b842aae4), with CONFIG_X86_X32_ABI; before, numbers from 512 on of the first. */
  { abi: "x32", symbol: symbol("?x32_sys_call_table"), dispatcher: symbol("?x32_sys_call") },
] as const;
type Abi = (typeof tables)[number]["abi"];

/** What a number without a system call leads to: from 5.5 (f48f01a92cca) with the prefix of the others. */
const unimplemented = [symbol("?__x64_sys_ni_syscall"), symbol("?__ia32_sys_ni_syscall"), symbol("?sys_ni_syscall")];

const MAX_SYSCALLS = 1024;

export interface SyscallEntry {
  readonly abi: Abi;
  readonly number: number;
  /** Undefined for a number without a known system call. */
  readonly name: string | undefined;
  readonly handler: Halves;
  readonly entry: Halves;
  /** Whether the function is the one that the number should have; undefined where that is not known. */
  readonly expected: boolean | undefined;
  /** What the kernel calls by: the table, or from 6.9 (1e3ad78334a6, also in later 5.15, 6.1 and 6.6) code that compares numbers. */
  readonly dispatch: "table" | "code";
}

/** Which entries are wanted; undefined: all. */
export interface SyscallFilter {
  readonly abis: ReadonlySet<string> | undefined;
  readonly numbers: ReadonlySet<number> | undefined;
}

/** Undefined where the kernel has no table that can be found. */
export function syscallEntries(kernel: Kernel, filter: SyscallFilter, budget: Budget): SyscallEntry[] | undefined {
  const { abis, numbers } = filter;
  const present = tables.filter(({ symbol: spec }) => kernel.optionalPlace(spec) !== undefined);
  if (present.length === 0) return undefined;
  const functions = abis?.has("64") === false ? new Map<string, Halves>() : functionsOf(kernel, numbers, budget);
  return present.flatMap(({ abi, symbol: spec, dispatcher }) => {
    const at = kernel.optionalPlace(spec);
    if (at === undefined || abis?.has(abi) === false) return [];
    const dispatch = kernel.optionalPlace(dispatcher) === undefined ? "table" : "code";
    return entriesOf(kernel, at, numbers, budget).map(({ number, handler }): SyscallEntry => {
      const name = abi === "64" ? syscallName(number) : undefined;
      const expected = abi === "64" && number < FIRST_X32 ? isExpected(kernel, handler, number, functions) : undefined;
      return { abi, number, name, handler, entry: plus(at, number * 8), expected, dispatch };
    });
  });
}

/** The table goes on to the next symbol, but for what fills up to where that begins. */
function entriesOf(
  kernel: Kernel,
  at: Place,
  numbers: ReadonlySet<number> | undefined,
  budget: Budget,
): { number: number; handler: Halves }[] {
  const end = kernel.kallsyms.after((BigInt(at.hi >>> 0) << 32n) | BigInt(at.lo >>> 0));
  const size = end === undefined || hiOf(end) !== at.hi ? 0 : (loOf(end) >>> 0) - (at.lo >>> 0);
  const entries: { number: number; handler: Halves }[] = [];
  for (let number = 0; number < Math.min(size >>> 3, MAX_SYSCALLS); number++) {
    if (numbers?.has(number) === false) continue;
    budget.spend();
    const handler = readPointer(kernel.space, at, number * 8);
    if (handler === undefined || (isNull(handler) && number * 8 + FILL >= size)) break;
    entries.push({ number, handler });
  }
  return entries;
}

/** Alignment of what lies behind a table. */
const FILL = 64;

/** Where the functions of all system calls are, in one pass over the symbol table. */
function functionsOf(kernel: Kernel, numbers: ReadonlySet<number> | undefined, budget: Budget): Map<string, Halves> {
  const names: string[] = [];
  for (let number = 0; number < MAX_SYSCALLS; number++) {
    const name = numbers?.has(number) === false ? undefined : functionName(number);
    if (name !== undefined) names.push(name);
  }
  budget.spend(1 + (kernel.kallsyms.count >>> 6));
  const found = new Map<string, Halves>();
  for (const [name, where] of kernel.kallsyms.find(names)) {
    const address = kernel.kallsyms.address(where.index);
    found.set(name, { hi: hiOf(address), lo: loOf(address) });
  }
  return found;
}

const PREFIX = "__x64_sys_";
/** Before 5.8 (6365b842aae4) the functions of x32 followed in the same table. */
const FIRST_X32 = 512;

function functionName(number: number): string | undefined {
  const name = syscallName(number);
  const called = name && syscallFunction(name);
  return called && PREFIX + called;
}

function isExpected(
  kernel: Kernel,
  handler: Halves,
  number: number,
  functions: ReadonlyMap<string, Halves>,
): boolean | undefined {
  const own = functions.get(functionName(number) ?? "");
  if (own !== undefined && sameAddress(own, handler)) return inKernelText(kernel, handler);
  if (own !== undefined) return false;
  // No such system call in this kernel, by its version or its configuration.
  const none = unimplemented.some((spec) => {
    const place = kernel.optionalPlace(spec);
    return place !== undefined && sameAddress(place, handler);
  });
  // A later kernel, or one with system calls of its own, may have one where no name is known.
  return none || syscallName(number) !== undefined ? none : undefined;
}
