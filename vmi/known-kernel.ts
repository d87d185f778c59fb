import { CR0_PG, CR3_PTI_USER, CR4_LA57, fiveLevel, fourLevel } from "./arch/x86-64.ts";
import { gvaOf, hiOf, loOf, PAGE_SIZE } from "./bytes/address.ts";
import type { VcpuRegisters } from "./driver/driver.ts";
import { PageTables } from "./memory/page-tables.ts";
import type { PhysicalMemory } from "./memory/physical-memory.ts";
import type { Profile } from "./symbols/profile.ts";
import { parseNote, type Vmcoreinfo } from "./symbols/vmcoreinfo.ts";

/**
 * The note of a kernel that a profile knows, without a search of memory: the interrupt table leads to a handler in the
 * kernel's text, whose distance to the pointer to the note the profile tells. This is a guess, whoever made the
 * profile: a note that is found so has to be proven like any other.
 */
export function hintedNote(
  memory: PhysicalMemory,
  { registers: vcpu }: VcpuRegisters,
  { noteHint }: Profile,
): Vmcoreinfo | undefined {
  const { cr0 = 0n, cr3 = 0n, cr4 = 0n, idtr_base } = vcpu;
  const [handlerFromText, pointerFromText] = noteHint;
  if (handlerFromText === undefined || pointerFromText === undefined) return undefined;
  if (idtr_base === undefined || (cr0 & CR0_PG) === 0n) return undefined;
  const mmu = (cr4 & CR4_LA57) !== 0n ? fiveLevel : fourLevel;
  // Any half of PTI's tables maps the interrupt table; only the kernel's maps the rest. See runsOn() in candidate.ts.
  for (const value of [cr3, cr3 & ~CR3_PTI_USER]) {
    const note = noteOf(PageTables.ofCr3(memory, mmu, value), idtr_base, handlerFromText, pointerFromText);
    if (note !== undefined) return note;
  }
  return undefined;
}

function noteOf(
  tables: PageTables,
  idt: bigint,
  handlerFromText: number,
  pointerFromText: number,
): Vmcoreinfo | undefined {
  const handler = gateTarget(tables, idt);
  if (handler === undefined) return undefined;
  const pointer = BigInt.asUintN(64, handler - BigInt(handlerFromText) + BigInt(pointerFromText));
  const at = tables.locate(hiOf(pointer), loOf(pointer), 8);
  if (at < 0) return undefined;
  const { view } = tables.memory;
  const gpa = tables.translate(view.getInt32(at + 4, true), view.getInt32(at, true))?.gpa;
  if (gpa === undefined || gpa % PAGE_SIZE !== 0) return undefined;
  const page = tables.memory.copy(gpa, PAGE_SIZE);
  return page && parseNote(page, gpa);
}

/** Where the first gate of an interrupt descriptor table leads (AMD64 manual volume 2, section 4.8.4: 64-bit gates). */
function gateTarget(tables: PageTables, base: bigint): bigint | undefined {
  const at = tables.locate(hiOf(base), loOf(base), 16);
  if (at < 0) return undefined;
  const { view } = tables.memory;
  const low = view.getUint16(at, true) | (view.getUint16(at + 6, true) << 16);
  return gvaOf(view.getInt32(at + 8, true), low);
}
