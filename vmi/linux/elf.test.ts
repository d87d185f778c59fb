import assert from "node:assert/strict";
import { test } from "node:test";
import { fourLevel } from "../arch/x86-64.ts";
import { Budget } from "../budget.ts";
import { AddressSpace } from "../memory/address-space.ts";
import { PageTableWriter } from "../testing/page-table-writer.ts";
import { Ram } from "../testing/ram.ts";
import { hasDynamicSymbol, sonameOf } from "./elf.ts";

const BASE = 0x5555_0000_0000;
const PAGE = 4096;
const GPA = 1 << 20;

/** A process in which a file is mapped as its bytes are, but for pages that are not in memory. */
function mapped(file: Buffer, missing: readonly number[] = []): AddressSpace {
  return processes(file, [{ missing }])[0]!;
}

/** Several that map one file; of some a page is their own. */
function processes(
  file: Buffer,
  each: readonly { missing?: readonly number[]; own?: readonly [page: number, bytes: Buffer] }[],
): AddressSpace[] {
  const pages = Math.ceil(file.length / PAGE);
  const ram = new Ram([[0, GPA + (pages + each.length) * PAGE + (1 << 20)]]);
  file.copy(ram.bytes, GPA);
  return each.map(({ missing = [], own }, number) => {
    const tables = new PageTableWriter(ram, fourLevel, { pgd: ram.take() });
    const copy = GPA + (pages + number) * PAGE;
    own?.[1].copy(ram.bytes, copy);
    for (let page = 0; page < pages; page++) {
      const gpa = page === own?.[0] ? copy : GPA + page * PAGE;
      if (!missing.includes(page)) tables.map(BigInt(BASE + page * PAGE), gpa, { user: true });
    }
    return new AddressSpace(ram.mapped(), fourLevel, tables.pgd);
  });
}

/** An ELF file of one segment and a dynamic section. */
function elf(strings: string, entries: readonly (readonly [number, number])[]): Buffer {
  const file = Buffer.alloc(4 * PAGE);
  file.write("\x7fELF\x02\x01", "latin1");
  file.writeBigUInt64LE(64n, 32);
  file.writeUInt16LE(2, 56);
  const segment = (at: number, type: number, address: number, length: number) => {
    file.writeUInt32LE(type, at);
    file.writeBigUInt64LE(BigInt(address), at + 16);
    file.writeBigUInt64LE(BigInt(length), at + 40);
  };
  segment(64, 1, 0, file.length);
  segment(64 + 56, 2, PAGE, entries.length * 16);
  entries.forEach(([tag, value], i) => {
    file.writeBigUInt64LE(BigInt(tag), PAGE + i * 16);
    file.writeBigUInt64LE(BigInt(value), PAGE + i * 16 + 8);
  });
  file.write(strings, 2 * PAGE, "latin1");
  return file;
}

const STRTAB = [5, 2 * PAGE] as const;
const size = (strings: string) => [10, strings.length] as const;
const has = (file: Buffer, missing?: readonly number[]) =>
  hasDynamicSymbol(mapped(file, missing), BASE, "add_history", new Map(), new Budget());

test("a symbol is found by its name, also where that is the end of another's", () => {
  const own = "\0read\0add_history\0";
  assert.equal(has(elf(own, [STRTAB, size(own)])), true);
  const shared = "\0read\0maybe_add_history\0";
  assert.equal(has(elf(shared, [STRTAB, size(shared)])), true);
  const none = "\0read\0add_history_time\0";
  assert.equal(has(elf(none, [STRTAB, size(none)])), false);
  // As the C library leaves it: the address, not the offset.
  assert.equal(has(elf(own, [[5, BASE + 2 * PAGE], size(own)])), true);
});

test("names are searched once for all processes that share them, and anew where a page is one's own", () => {
  const names = `\0${"x".repeat(3000)}\0`;
  const file = elf(names, [STRTAB, size(names)]);
  const [first, second, third] = processes(file, [{}, {}, { own: [2, Buffer.from("\0add_history\0")] }]);
  const searched = new Map<string, boolean>();
  const ask = (space: AddressSpace) => {
    const budget = new Budget();
    const before = budget.left;
    return { found: hasDynamicSymbol(space, BASE, "add_history", searched, budget), steps: before - budget.left };
  };
  const [searching, known, own] = [first, second, third].map((space) => ask(space!));
  assert.deepEqual([searching!.found, known!.found, own!.found], [false, false, true]);
  assert.equal(searching!.steps - known!.steps, 3001 >> 6);
  assert.equal(own!.steps, searching!.steps);
});

test("what is no such file has none, and what is not in memory is not known", () => {
  const own = "\0add_history\0";
  const file = elf(own, [STRTAB, size(own)]);
  assert.equal(has(Buffer.alloc(PAGE)), "none");
  assert.equal(has(elf(own, [STRTAB])), "none");
  assert.equal(has(file, [0]), undefined);
  assert.equal(has(file, [1]), undefined);
  assert.equal(has(file, [2]), undefined);
  // Sizes that a file of the guest may claim.
  assert.equal(has(elf(own, [STRTAB, [10, 2 ** 40]])), "none");
  assert.equal(has(elf(own, [[5, 2 ** 52], size(own)])), undefined);
});

test("a library's own name", () => {
  const strings = "\0libx.so.1\0";
  const name = (entries: readonly (readonly [number, number])[]) => {
    const found = sonameOf(mapped(elf(strings, entries)), BASE, new Budget());
    return found instanceof Uint8Array ? Buffer.from(found).toString() : found;
  };
  assert.equal(name([STRTAB, [14, 1]]), "libx.so.1");
  assert.equal(name([STRTAB]), "none");
  assert.equal(
    name([
      [5, 2 ** 52],
      [14, 1],
    ]),
    undefined,
  );
});
