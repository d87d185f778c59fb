/**
 * What a driver gives the engine. Memory is mandatory; everything else is an optional member,
 * so that the absence of a capability shows in the type.
 */

/** A stretch of guest RAM and where its bytes are found. */
export interface RamRange {
  /** Guest physical address of the first byte, page aligned. */
  readonly gpa: number;
  /** Bytes, a whole number of pages. */
  readonly length: number;
  /** Index into {@link GuestMemoryLayout.backings}. */
  readonly backing: number;
  /** Where the range begins in its backing: a file offset, or for process memory the host virtual address. */
  readonly offset: number;
}

/** Something that holds guest RAM. The descriptor belongs to whoever opened it. */
export type Backing =
  /** Shared RAM of a running guest: mapped read only, nothing copied. */
  | { readonly kind: "shared"; readonly fd: number }
  /** /proc/PID/mem of a hypervisor process: read with pread at host virtual addresses. */
  | { readonly kind: "process"; readonly fd: number }
  /** A memory image: mapped read only. */
  | { readonly kind: "file"; readonly fd: number };

export interface GuestMemoryLayout {
  /** Ascending by gpa, without overlap. */
  readonly ranges: readonly RamRange[];
  readonly backings: readonly Backing[];
  /**
   * A hint, ascending: where bytes other than zero can be. RAM outside had never been touched when the layout was made,
   * and scans need not touch it either (touching a hole of a shared mapping would allocate host memory). A guest that
   * boots touches more: make a new layout before attaching to it again.
   */
  readonly populated?: readonly { readonly gpa: number; readonly length: number }[];
}

/** Registers of one vCPU by their usual names in lower case: rax … r15, rip, rflags, cs, cr0, cr3, cr4, efer, gs_base, idtr_base, … */
export interface VcpuRegisters {
  readonly index: number;
  readonly registers: Readonly<Record<string, bigint>>;
}
