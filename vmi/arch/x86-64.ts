/**
 * The x86-64 MMU as data: AMD64 Architecture Programmer's Manual volume 2, sections 5.3 to 5.5; Intel SDM volume 3A,
 * chapter 4. A 5-level walk is a 4-level one with one more split on top.
 */
export interface Mmu {
  readonly name: string;
  /** For each level from the top: how far the address is shifted, as an amount on 64 bits. */
  readonly shifts: readonly number[];
  /** Bits of a virtual address that are not a copy of its top bit. */
  readonly virtualBits: number;
}

export const fourLevel: Mmu = { name: "4-level", shifts: [39, 30, 21, 12], virtualBits: 48 };
export const fiveLevel: Mmu = { name: "5-level", shifts: [48, 39, 30, 21, 12], virtualBits: 57 };

export const PTE_PRESENT = 1 << 0;
export const PTE_WRITABLE = 1 << 1;
export const PTE_USER = 1 << 2;
export const PTE_LARGE = 1 << 7;
/** Software view of a PROT_NONE mapping: `_PAGE_PROTNONE` is the global bit while present is clear (arch/x86/include/asm/pgtable_types.h). */
export const PTE_PROTNONE = 1 << 8;
/** High half of bit 63, execute disable. */
export const PTE_NX_HI = 1 << 31;
/** Physical address bits of an entry: 12 to 51. */
export const PTE_ADDRESS_HI = 0x000f_ffff;
export const PTE_ADDRESS_LO = 0xffff_f000 | 0;

/** CR3 without PCID. */
export const CR3_PGD_MASK = 0x000f_ffff_ffff_f000n;
/** Under PTI: set for the user half of a pair of top tables, clear for the kernel half (arch/x86/mm/pti.c). */
export const CR3_PTI_USER = 1n << 12n;
export const CR4_LA57 = 1n << 12n;
export const CR0_PG = 1n << 31n;

/** Where the kernel image is mapped: __START_KERNEL_map. */
export const START_KERNEL_MAP = 0xffff_ffff_8000_0000n;
