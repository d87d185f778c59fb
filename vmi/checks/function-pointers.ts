import { formatHalves, gvaOf, type Halves, PAGE_SIZE } from "../bytes/address.ts";
import type { Kernel, Place } from "../linux/kernel.ts";
import { symbol } from "../symbols/specs.ts";
import { type CheckContext, defineCheck } from "./check.ts";
import { type CodeOwner, codeOwner, TAINTS_ARE_TRUSTED } from "./code-owner.ts";
import { memberName } from "./operations.ts";

/** arch/x86/kernel/vmlinux.lds.S. Types (BTF) lie among the constants, and are no pointers. */
const areas = [
  { constant: true, start: symbol("__start_rodata"), end: symbol("__end_rodata") },
  { constant: false, start: symbol("_sdata"), end: symbol("_edata") },
  { constant: false, start: symbol("__bss_start"), end: symbol("__bss_stop") },
] as const;
/** What lies within these, and is not the kernel's variables. */
const left = [
  { start: symbol("?__start_BTF"), end: symbol("?__stop_BTF") },
  /** Freed where memory is not encrypted (mem_encrypt_free_decrypted_mem): it belongs to whoever has the pages. */
  { start: symbol("?__start_bss_decrypted_unused"), end: symbol("?__end_bss_decrypted") },
] as const;
const imageEnd = symbol("_end");
/** The first task's stack lies among the variables: addresses of whatever it called. */
const initStack = symbol("?init_stack");
const initStackSize = 4 * PAGE_SIZE;

/**
 * Bounds of where code may be, which are no pointers to functions (kernel/module/main.c, mm/execmem.c); the page of thunks
 * that the kernel makes for some processors (arch/x86/kernel/alternative.c); and what has a check of its own.
 */
const LEFT_OUT = new Set([
  "mod_tree",
  "execmem_info",
  "its_page",
  "its_pages",
  "sys_call_table",
  "ia32_sys_call_table",
  "x32_sys_call_table",
]);

/** Addresses in the top 2 GiB have this upper half. */
const TOP = -1;
/** A page takes as long as so many elements of a list. */
const PAGE_COST = 8;
/** As does a pointer that is judged. */
const POINTER_COST = 4;

export const functionPointers = defineCheck({
  name: "function-pointers",
  severity: "critical",
  cost: "walk",
  compares:
    "Every pointer in the kernel's constants (tables of operations of files, inodes, sockets, protocols, terminals, seq " +
    "files, security modules) with where the image is: none of them may lead into a module, as they are written before the " +
    "first is loaded and made read-only. And every pointer in the kernel's variables (line disciplines, protocols, " +
    "hooks for modules) that leads to executable memory: that has to be the image, a module that came with the kernel, or " +
    "code that the kernel made itself.",
  misses:
    "Tables in memory that was allocated, or in modules, and pointers of an object to another table: a copy of " +
    "file_operations in a module's data, that a single inode leads to. A pointer that leads to another function of the " +
    "kernel itself. An out-of-tree driver that puts its functions into a variable of the kernel is reported with severity " +
    "medium. In variables: " +
    TAINTS_ARE_TRUSTED,
  confirm:
    "Read the 8 bytes at the address with cloudvmi read; the symbols before and there are told by cloudvmi symbols. In the " +
    "guest, the same table of another machine with this kernel leads to a function of the kernel.",
  reads: ["__start_rodata to __end_rodata", "_sdata to _edata", "__bss_start to __bss_stop", "modules"],
  look: (context) => {
    for (const { constant, start, end } of areas) {
      pointersOut(context, context.kernel.place(start), context.kernel.place(end), (place, target) => {
        judge(context, place, target, constant);
      });
    }
  },
});

function judge(context: CheckContext, place: Halves, target: Halves, constant: boolean): void {
  const { kernel } = context;
  const owner = codeOwner(context, target);
  // What is neither in a module nor executable is a number that looks like an address.
  if (owner.kind === "data" ? !constant : owner.kind === "nobody" && !isExecutable(kernel, target)) return;
  if (!constant && owner.kind !== "foreign" && owner.kind !== "nobody") return;
  const name = variableAt(kernel, place);
  if (name === undefined || LEFT_OUT.has(name.variable)) return;
  report(context, { place, target, constant, owner, ...name });
}

interface Found {
  readonly place: Halves;
  readonly target: Halves;
  readonly constant: boolean;
  readonly owner: CodeOwner;
  readonly variable: string;
  readonly text: string;
}

function report(context: CheckContext, { place, target, constant, owner, text, variable }: Found): void {
  // An address in the table of operations was one of the kernel's own when the kernel was built.
  const operations = /_(ops|fops|operations)$/.test(variable);
  context.report({
    what: `${text} leads to ${owner.text}`,
    where: `${text} at ${formatHalves(place.hi, place.lo)}`,
    evidence: formatHalves(target.hi, target.lo),
    expected: constant
      ? "an address within the kernel's image: this is constant"
      : "a function of the kernel, or of a module that came with it",
    identity: `${text} ${owner.name}`,
    severity: constant || operations || owner.kind === "nobody" ? "critical" : "medium",
    address: target,
  });
}

/** `n_tty_ops.receive_buf2`, or `variable+0x78` where the type is not known. */
function variableAt(kernel: Kernel, { hi, lo }: Halves): { variable: string; text: string } | undefined {
  const address = gvaOf(hi, lo);
  const found = kernel.kallsyms.before(address);
  if (found === undefined) return undefined;
  const offset = Number(address - found.address);
  const member = memberName(kernel, found.name, offset);
  const behind = offset === 0 ? "" : `+0x${offset.toString(16)}`;
  return { variable: found.name, text: `${found.name}${member === undefined ? behind : `.${member}`}` };
}

function isExecutable({ space }: Kernel, { hi, lo }: Halves): boolean {
  return space.translate(hi, lo)?.executable ?? false;
}

/** Visits the aligned words of an area that are addresses above the image, where modules and made code are, of memory that is there. */
function pointersOut(
  { kernel, budget }: CheckContext,
  start: Place,
  end: Place,
  visit: (place: Halves, target: Halves) => void,
): void {
  const above = kernel.place(imageEnd).lo >>> 0;
  const skipped = skippedRanges(kernel);
  const last = end.lo >>> 0;
  for (let page = floor(start.lo >>> 0); page < last; page += PAGE_SIZE) {
    budget.spend(PAGE_COST);
    const index = kernel.space.resolve(start.hi, page | 0);
    if (index < 0) continue;
    const { bytes } = kernel.memory;
    const words = new Int32Array(bytes.buffer, bytes.byteOffset + index, PAGE_SIZE / 4);
    // Gathered first: what is visited reads, and other bytes may be there then.
    const found: [place: number, target: number][] = [];
    candidates(words, above, (word) => {
      const place = page + word * 4;
      if (place < start.lo >>> 0 || place >= last) return;
      if (skipped.some((range) => place >= range.start && place < range.end)) return;
      found.push([place, words[word]!]);
    });
    for (const [place, target] of found) {
      budget.spend(POINTER_COST);
      if (kernel.space.translate(TOP, target) === undefined) continue;
      visit({ hi: start.hi, lo: place | 0 }, { hi: TOP, lo: target });
    }
  }
}

/** A function of its own, of one page, so that it is compiled soon. */
function candidates(words: Int32Array, above: number, take: (word: number) => void): void {
  for (let word = 0; word < words.length; word += 2) {
    if (words[word + 1] === TOP && words[word]! >>> 0 >= above) take(word);
  }
}

function floor(lo: number): number {
  return lo - (lo % PAGE_SIZE);
}

function skippedRanges(kernel: Kernel): { start: number; end: number }[] {
  const ranges = left.flatMap(({ start, end }) => {
    const [from, to] = [kernel.optionalPlace(start), kernel.optionalPlace(end)];
    return from === undefined || to === undefined ? [] : [{ start: from.lo >>> 0, end: to.lo >>> 0 }];
  });
  const stack = kernel.optionalPlace(initStack);
  if (stack !== undefined) ranges.push({ start: stack.lo >>> 0, end: (stack.lo >>> 0) + initStackSize });
  return ranges;
}
