/**
 * The introspection engine, usable alone: `attach(openMemory(layout))` finds the kernel of a running guest, or of a
 * memory image, by itself and answers questions about it.
 */
export type { AttachOptions } from "./attach.ts";
export { Budget } from "./budget.ts";
export type { Check, Severity } from "./checks/check.ts";
export { checks } from "./checks/index.ts";
export type { Backing, GuestMemoryLayout, RamRange, VcpuRegisters } from "./driver/driver.ts";
export { FileMissing, GuestError, type GuestErrorKind } from "./errors.ts";
export {
  attach,
  checkBatch,
  type Guest,
  type ObjectAnswer,
  type ReadItem,
  type ReadResult,
  type Space,
  type TranslationResult,
} from "./guest.ts";
export { openMemory } from "./memory/open.ts";
export type { PhysicalMemory } from "./memory/physical-memory.ts";
export type { Place, Region, RegionQuery, ScanTarget } from "./scan/region.ts";
export { OVERLAP, WINDOW } from "./scan/windows.ts";
export type { KernelSymbol } from "./symbols/kallsyms.ts";
export type { ObjectMember } from "./symbols/object-text.ts";
export { prepare } from "./symbols/profile.ts";
export type { TypeLayout, TypeMember } from "./symbols/type-text.ts";
export type { ColumnData } from "./tables/columns.ts";
export { tables } from "./tables/index.ts";
export type { TableAnswer, TableQuery } from "./tables/read-table.ts";
export type { Table } from "./tables/table.ts";
