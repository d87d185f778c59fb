/**
 * Guest RAM from the text of `info mtree -f`.
 * Source: mtree_print_flatview() in softmmu/memory.c of QEMU (system/memory.c since 8.2).
 */

/** A stretch of guest physical addresses that one RAM block answers. */
export interface RamSection {
  readonly gpa: number;
  readonly length: number;
  /** Name of the RAM block: pc.ram, or the id of a memory backend. */
  readonly block: string;
  /** Where it begins in the block. */
  readonly offset: number;
}

const line =
  /^ {2}([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, ([^)]+)\): (.+?)(?: @([0-9a-f]{16}))?(?: (?:KVM|kvm|tcg|TCG))?$/;

/**
 * The RAM of the address space "memory" (what every vCPU sees outside SMM), ascending, neighbours merged.
 * ROM, device memory and MMIO are left out. An unknown text gives no sections.
 */
export function parseMtree(text: string): RamSection[] {
  const view = text.split(/\r?\n\r?\n/).find((block) => /^ AS "memory", root: system/m.test(block));
  const sections: RamSection[] = [];
  for (const row of view?.split(/\r?\n/) ?? []) {
    const match = line.exec(row.trimEnd());
    if (match?.[3] !== "ram") continue;
    const gpa = Number.parseInt(match[1]!, 16);
    const section = {
      gpa,
      length: Number.parseInt(match[2]!, 16) + 1 - gpa,
      block: match[4]!,
      offset: Number.parseInt(match[5] ?? "0", 16),
    };
    const last = sections.at(-1);
    if (
      last &&
      last.block === section.block &&
      last.gpa + last.length === gpa &&
      last.offset + last.length === section.offset
    ) {
      sections[sections.length - 1] = { ...last, length: last.length + section.length };
    } else {
      sections.push(section);
    }
  }
  return sections;
}
