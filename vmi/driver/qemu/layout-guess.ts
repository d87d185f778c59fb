/**
 * The RAM layout of a PC without asking its monitor.
 * Source: pc_init1() in hw/i386/pc_piix.c and pc_q35_init() in hw/i386/pc_q35.c of QEMU.
 */
import type { RamSection } from "./mtree.ts";

const GiB = 2 ** 30;

/**
 * Where QEMU puts `memoryBytes` of RAM. The legacy hole (0xa0000 to 0xfffff: VGA and firmware) is left out.
 * Undefined for a machine whose layout is not known.
 */
export function guessLayout(machine: string, memoryBytes: number, maxRamBelow4g?: number): RamSection[] | undefined {
  const low = lowMemory(machine, memoryBytes, maxRamBelow4g);
  if (low === undefined) return undefined;
  const below = Math.min(memoryBytes, low);
  const block = "ram";
  const sections: RamSection[] = [{ gpa: 0, length: 0xa0000, block, offset: 0 }];
  if (below > 0x100000) sections.push({ gpa: 0x100000, length: below - 0x100000, block, offset: 0x100000 });
  if (memoryBytes > below) sections.push({ gpa: 4 * GiB, length: memoryBytes - below, block, offset: below });
  return sections;
}

/** Bytes of RAM below 4 GiB when there is more than that. */
function lowMemory(machine: string, memoryBytes: number, maxRamBelow4g: number | undefined): number | undefined {
  if (/^(?:q35|pc-q35-.+)$/.test(machine)) {
    const low = memoryBytes >= 0xb0000000 ? 0x80000000 : 0xb0000000;
    return Math.min(low, maxRamBelow4g ?? 4 * GiB);
  }
  if (/^(?:pc|pc-i440fx-.+)$/.test(machine)) {
    const limit = maxRamBelow4g ?? 0xe0000000;
    return memoryBytes >= limit ? Math.min(limit, 0xc0000000) : limit;
  }
  return undefined;
}
