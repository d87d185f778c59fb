import { CR0_PG, CR3_PTI_USER, CR4_LA57, fiveLevel, fourLevel } from "./arch/x86-64.ts";
import { addHi, addLo, hiOf, loOf, PAGE_SIZE } from "./bytes/address.ts";
import type { VcpuRegisters } from "./driver/driver.ts";
import { imageGpa } from "./linux/kernel.ts";
import { AddressSpace } from "./memory/address-space.ts";
import { PageTables } from "./memory/page-tables.ts";
import type { PhysicalMemory } from "./memory/physical-memory.ts";
import { numberField, offsetField, parseNote, symbolField, type Vmcoreinfo } from "./symbols/vmcoreinfo.ts";

/** A kernel in memory whose note, page tables and own name agree. */
export interface Candidate {
  readonly note: Vmcoreinfo;
  readonly space: AddressSpace;
  readonly release: string;
  readonly physBase: bigint;
  readonly stext: bigint;
  /** How far KASLR has moved the image, in bytes. */
  readonly kaslrOffset: number;
}

/** sizeof(new_utsname.sysname) + sizeof(new_utsname.nodename): `release` is the third member (include/uapi/linux/utsname.h). */
const UTS_RELEASE = 2 * 65;
/** offsetof(uts_namespace, name) before 5.11 (9a56493f6942), behind a kref; then VMCOREINFO says it (ca4a9241cc5e). */
const UTS_NAME_BEHIND_KREF = 4;

/** The address space that a note describes, when the tables there and the kernel's own name agree with it; else why not. */
export function proveNote(memory: PhysicalMemory, note: Vmcoreinfo): Candidate | string {
  const release = note.fields.get("OSRELEASE") ?? "";
  // It goes into messages. __NEW_UTS_LEN is 64.
  if (!/^[\x21-\x7e]{1,64}$/.test(release)) return "a VMCOREINFO note in memory names no release";
  const physBase = numberField(note, "phys_base");
  const swapper = symbolField(note, "swapper_pg_dir");
  const stext = symbolField(note, "_stext");
  const uts = symbolField(note, "init_uts_ns");
  const utsName = offsetField(note, "uts_namespace.name") ?? UTS_NAME_BEHIND_KREF;
  if (physBase === undefined || swapper === undefined || stext === undefined || uts === undefined) {
    return `the VMCOREINFO note of Linux ${release} lacks a needed entry`;
  }
  const mmu = numberField(note, "pgtable_l5_enabled") === 1n ? fiveLevel : fourLevel;
  const pgd = imageGpa(swapper, physBase);
  if (!memory.contains(pgd, PAGE_SIZE)) return `the page tables of Linux ${release} are not in RAM`;
  const smeMask = numberField(note, "sme_mask") ?? 0n;
  if (
    new PageTables(memory, mmu, pgd, smeMask).translate(hiOf(stext), loOf(stext))?.gpa !== imageGpa(stext, physBase)
  ) {
    return `remains of Linux ${release} are in memory, its page tables are not`;
  }
  const space = new AddressSpace(memory, mmu, pgd, smeMask);
  const named = new Uint8Array(release.length + 1);
  const at = utsName + UTS_RELEASE;
  space.read(addHi(hiOf(uts), loOf(uts), at), addLo(loOf(uts), at), named);
  if (Buffer.from(named).toString("latin1") !== `${release}\0`)
    return `remains of Linux ${release} are in memory, overwritten in part`;
  const offset = /^[0-9a-f]{1,16}$/.exec(note.fields.get("KERNELOFFSET") ?? "")?.[0] ?? "0";
  return { note, space, release, physBase, stext, kaslrOffset: Number.parseInt(offset, 16) };
}

/** True when a vCPU's page tables map the kernel where this candidate says it is. */
export function runsOn({ note, space, physBase, stext }: Candidate, registers: readonly VcpuRegisters[]): boolean {
  const expected = imageGpa(stext, physBase);
  return registers.some(({ registers: vcpu }) => {
    const { cr0 = 0n, cr3 = 0n, cr4 = 0n } = vcpu;
    if ((cr0 & CR0_PG) === 0n) return false;
    const mmu = (cr4 & CR4_LA57) !== 0n ? fiveLevel : fourLevel;
    if (mmu !== space.mmu) return false;
    const smeMask = numberField(note, "sme_mask");
    // Bit 12 tells PTI's user half from the kernel half; without PTI it is part of the address.
    return [cr3, cr3 & ~CR3_PTI_USER].some((value) => {
      const tables = PageTables.ofCr3(space.memory, mmu, value, smeMask);
      return tables.translate(hiOf(stext), loOf(stext))?.gpa === expected;
    });
  });
}

/** True while what proved a candidate is in memory, and a vCPU runs it where registers are given. */
export function stillThere(candidate: Candidate, registers: readonly VcpuRegisters[]): boolean {
  const { note, space, release } = candidate;
  const page = space.memory.copy(note.gpa, PAGE_SIZE);
  if (page === undefined || parseNote(page, note.gpa)?.text !== note.text) return false;
  const proof = proveNote(space.memory, note);
  if (typeof proof === "string" || proof.space.pgd !== space.pgd || proof.release !== release) return false;
  return registers.length === 0 || runsOn(candidate, registers);
}
