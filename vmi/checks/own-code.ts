import type { Budget } from "../budget.ts";
import { gvaOf, type Halves, hiOf, loOf, PAGE_SIZE } from "../bytes/address.ts";
import { inodeOf } from "../linux/file.ts";
import type { Kernel } from "../linux/kernel.ts";
import { userSpace } from "../linux/mm.ts";
import { cachedPage, isAnonymousPage } from "../linux/page-cache.ts";
import type { Vma } from "../linux/vma.ts";
import { mappedSpans } from "../memory/mapped-spans.ts";

/** Code that is shown of a place. */
export interface FoundCode {
  readonly at: Halves;
  readonly found: Uint8Array;
  readonly original?: Uint8Array;
}

/** Steps that a page costs whose bytes are looked at. */
const PAGE_STEPS = 8;
const SHOWN = 64;
const ALIGNMENT = 16;
const INT3 = 0xcc;
const ZEROS = Buffer.alloc(PAGE_SIZE);

/** The first bytes in an area that are not zero, to be shown; undefined where nothing was written yet. */
export function firstCode(kernel: Kernel, mm: Halves, area: Vma, budget: Budget): FoundCode | undefined {
  let found: FoundCode | undefined;
  eachPage(kernel, mm, area, budget, (offset, gpa) => {
    const page = copyOf(kernel, gpa, budget);
    if (page === undefined || page.equals(ZEROS)) return true;
    const first = page.findIndex((byte) => byte !== 0);
    const from = first - (first % ALIGNMENT);
    found = { at: within(area, offset + from), found: page.subarray(from, from + SHOWN) };
    return false;
  });
  return found;
}

/** What a process has in place of its file's code. */
export interface ModifiedCode {
  /** Pages that differ from the file's. */
  readonly pages: number;
  readonly bytes: number;
  /** Offsets in the file where a breakpoint instruction stands and nothing else differs around; undefined when more does. */
  readonly breakpoints: readonly number[] | undefined;
  /** Pages of which the file's content is not in memory: whether they differ is not known. */
  readonly unknown: number;
  readonly first: FoundCode;
}

/** The pages of a private mapping of a file that were written, compared with the file's; undefined where none differs. */
export function modifiedCode(kernel: Kernel, mm: Halves, area: Vma, budget: Budget): ModifiedCode | undefined {
  const inode = area.file && inodeOf(kernel, area.file);
  if (inode === undefined) return undefined;
  let pages = 0;
  let bytes = 0;
  let unknown = 0;
  let first: FoundCode | undefined;
  let breakpoints: number[] | undefined = [];
  eachPage(kernel, mm, area, budget, (offset, gpa) => {
    const page = isAnonymousPage(kernel, gpa) === true ? copyOf(kernel, gpa, budget) : undefined;
    if (page === undefined) return true;
    const index = area.pageOffset + offset / PAGE_SIZE;
    const cached = cachedPage(kernel, inode, index);
    const original = cached === undefined ? undefined : copyOf(kernel, cached, budget);
    if (original === undefined) {
      unknown++;
      return true;
    }
    if (page.equals(original)) return true;
    pages++;
    for (let i = 0; i < PAGE_SIZE; i++) {
      if (page[i] === original[i]) continue;
      bytes++;
      if (page[i] !== INT3) breakpoints = undefined;
      breakpoints?.push(index * PAGE_SIZE + i);
      if (first !== undefined) continue;
      const from = i - (i % ALIGNMENT);
      first = {
        at: within(area, offset + from),
        found: page.subarray(from, from + SHOWN),
        original: original.subarray(from, from + SHOWN),
      };
    }
    return true;
  });
  return first && { pages, bytes, breakpoints, unknown, first };
}

/** An area may have many GiB. */
function within({ start }: Vma, offset: number): Halves {
  const address = gvaOf(start.hi, start.lo) + BigInt(offset);
  return { hi: hiOf(address), lo: loOf(address) };
}

function copyOf(kernel: Kernel, gpa: number, budget: Budget): Buffer | undefined {
  budget.spend(PAGE_STEPS);
  const bytes = kernel.memory.copy(gpa, PAGE_SIZE);
  return bytes && Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** Visits the pages of an area that are in memory: a JIT's has many thousand, most of them never touched. */
function eachPage(
  kernel: Kernel,
  mm: Halves,
  area: Vma,
  budget: Budget,
  visit: (offset: number, gpa: number) => boolean,
): void {
  const space = userSpace(kernel, mm);
  if (space === undefined) return;
  const [start, end] = [gvaOf(area.start.hi, area.start.lo), gvaOf(area.end.hi, area.end.lo)];
  // A guest may claim an area anywhere: processes have the lower half.
  if (end > 1n << BigInt(space.mmu.virtualBits - 1)) return;
  for (const { address, gpa, length } of mappedSpans(space, start, end, budget)) {
    const offset = Number(address - start);
    for (let done = 0; done < length; done += PAGE_SIZE) {
      budget.spend();
      if (!visit(offset + done, gpa + done)) return;
    }
  }
}
