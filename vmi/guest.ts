import { type AttachOptions, attachKernel } from "./attach.ts";
import { Budget } from "./budget.ts";
import { formatAddress, gvaOf, type Halves } from "./bytes/address.ts";
import type { VcpuRegisters } from "./driver/driver.ts";
import { GuestError } from "./errors.ts";
import { type Kernel, kernelGone } from "./linux/kernel.ts";
import { moduleSymbolBefore } from "./linux/kernel-address.ts";
import { firstSymbols } from "./linux/kernel-symbols.ts";
import { halvesOf, userSpace } from "./linux/mm.ts";
import { processMember } from "./linux/process-member.ts";
import { isNull } from "./linux/read.ts";
import { initTask, taskStruct } from "./linux/task-struct.ts";
import { findProcess } from "./linux/tasks.ts";
import type { AddressSpace } from "./memory/address-space.ts";
import type { PhysicalMemory } from "./memory/physical-memory.ts";
import type { Region, RegionQuery } from "./scan/region.ts";
import { regionsOf } from "./scan/regions.ts";
import type { Btf } from "./symbols/btf.ts";
import type { KernelSymbol } from "./symbols/kallsyms.ts";
import { decodeObject, type ObjectMember } from "./symbols/object-text.ts";
import { encodeProfile } from "./symbols/profile.ts";
import { findType, layoutOf, type TypeLayout } from "./symbols/type-text.ts";
import { tables } from "./tables/index.ts";
import { readTable, type TableAnswer, type TableQuery } from "./tables/read-table.ts";

/** Where an address is to be understood: RAM itself, the kernel's address space, or that of a process. */
export type Space = "physical" | "kernel" | { readonly pid: number };

export interface ReadItem {
  readonly space: Space;
  /** The address; with `after`, what is added to the value found there. */
  readonly address: bigint;
  /** Bytes, at most MAX_READ. */
  readonly length: number;
  /** The u64 at `offset` of the result of an earlier item, so that a pointer chase is one request. */
  readonly after?: { readonly item: number; readonly offset: number };
}

export interface ReadResult {
  /** The bytes up to the first that can't be read. */
  readonly bytes: Uint8Array;
  readonly address: bigint;
  /** Empty when all was read. */
  readonly error: string;
}

export type TranslationResult =
  | {
      readonly mapped: true;
      readonly gpa: number;
      readonly pageSize: number;
      readonly writable: boolean;
      readonly user: boolean;
      readonly executable: boolean;
    }
  | { readonly mapped: false; readonly error: string };

/** Bytes of one item, items of one batch, and bytes of one batch. */
const MAX_READ = 1 << 20;
const MAX_ITEMS = 4096;
const MAX_BATCH = 16 << 20;
const MAX_TRANSLATIONS = 65_536;
const MAX_SYMBOLS = 4096;
/** What one type costs of a budget: as many members as one may have. */
const TYPE_STEPS = 8192;
/** Bytes from a symbol to what is still said to be of it. */
const MAX_SYMBOL_REACH = 1n << 20n;
/** The kernel's half of the addresses begins here. */
const KERNEL_HALF = 1n << 63n;

/** A live object: its type, and its members with their values. */
export interface ObjectAnswer {
  readonly type: TypeLayout;
  readonly address: bigint;
  readonly members: readonly ObjectMember[];
}

/** A guest whose kernel has been found. Every question sees the guest as it is then: nothing of it is remembered. */
export class Guest {
  readonly kernel: Kernel;
  /** To be kept for later attachments to the same kernel build; see AttachOptions.profiles. */
  readonly profile: Uint8Array;
  readonly profileWasCached: boolean;
  readonly #stillThere: (registers: readonly VcpuRegisters[]) => boolean;
  readonly #types: () => Btf;

  constructor(memory: PhysicalMemory, options: AttachOptions) {
    const attached = attachKernel(memory, options);
    this.kernel = attached.kernel;
    this.#stillThere = attached.stillThere;
    this.#types = attached.types;
    this.profileWasCached = attached.profileWasCached;
    this.profile = encodeProfile(attached.kernel.profile);
  }

  /**
   * False when the kernel that was found is no longer the one that runs: the guest was reset or started another, and
   * must be attached to again. Without registers only its absence from memory shows; a reset leaves memory as it is,
   * and what was found then passes until it is overwritten.
   */
  isCurrent(registers: readonly VcpuRegisters[] = []): boolean {
    this.kernel.dropCaches();
    return this.#stillThere(registers);
  }

  table(name: string, query: TableQuery = {}, budget = new Budget()): TableAnswer {
    const table = tables.find((candidate) => candidate.name === name);
    if (table === undefined) {
      throw new GuestError(
        "unknown-table",
        `there is no table '${name}'; there are ${tables.map((known) => known.name).join(", ")}`,
      );
    }
    this.kernel.dropCaches();
    requireKernel(this.kernel);
    return readTable(table, this.kernel, query, budget);
  }

  /** Throws GuestError "bad-request", "no-such-process"; what can't be read shows in the result. */
  read(items: readonly ReadItem[], budget = new Budget()): ReadResult[] {
    checkBatch(items);
    this.kernel.dropCaches();
    const spaces = new Spaces(this.kernel, budget);
    const results: ReadResult[] = [];
    for (const item of items) {
      const address = resolveAddress(item, results);
      if (address === undefined) {
        results.push({
          bytes: EMPTY,
          address: 0n,
          error: `the item that it comes after has no pointer at ${item.after?.offset}`,
        });
        continue;
      }
      budget.spend(1 + (item.length >>> 12));
      const bytes = new Uint8Array(item.length);
      const done =
        item.space === "physical"
          ? readPhysical(this.kernel.memory, address, bytes)
          : spaces.read(item.space, address, bytes);
      results.push({
        bytes: bytes.subarray(0, done),
        address,
        error:
          done === item.length
            ? ""
            : `${formatAddress(BigInt.asUintN(64, address + BigInt(done)))} is not mapped to memory`,
      });
    }
    return results;
  }

  /**
   * What there is to look through for patterns, region by region; `note` is told what could not be read.
   * Throws GuestError "no-such-process", "deadline", "over-budget".
   */
  regions(query: RegionQuery, budget = new Budget(), note: (text: string) => void = () => {}): Generator<Region> {
    this.kernel.dropCaches();
    requireKernel(this.kernel);
    return regionsOf(this.kernel, query, budget, note);
  }

  /** What the page tables say. Throws GuestError "bad-request", "no-such-process". */
  translate(
    items: readonly { readonly space: Space; readonly address: bigint }[],
    budget = new Budget(),
  ): TranslationResult[] {
    if (items.length > MAX_TRANSLATIONS) throw tooMany("translations", MAX_TRANSLATIONS);
    this.kernel.dropCaches();
    const spaces = new Spaces(this.kernel, budget);
    return items.map(({ space, address }) => {
      budget.spend();
      if (space === "physical")
        throw new GuestError("bad-request", "a physical address has no translation; name the kernel or a process");
      const { hi, lo } = halvesOf(address);
      const found = spaces.of(space).translate(hi, lo);
      return found ? { mapped: true, ...found } : { mapped: false, error: `0x${address.toString(16)} is not mapped` };
    });
  }

  /** The first symbol of each name, in the order of /proc/kallsyms: the kernel's own, or else a module's. */
  symbols(names: readonly string[], budget = new Budget()): (KernelSymbol | undefined)[] {
    if (names.length > MAX_SYMBOLS) throw tooMany("symbols", MAX_SYMBOLS);
    this.kernel.dropCaches();
    const found = firstSymbols(this.kernel, names, budget);
    return names.map((name) => found.get(name));
  }

  /**
   * The symbol at or before each address, of the module that the address is in, or else the kernel's; undefined where the
   * last one before is too far to say anything, as in the heap or in a process.
   */
  symbolsAt(addresses: readonly bigint[], budget = new Budget()): (KernelSymbol | undefined)[] {
    if (addresses.length > MAX_SYMBOLS) throw tooMany("symbols", MAX_SYMBOLS);
    this.kernel.dropCaches();
    return addresses.map(
      (address) => moduleSymbolBefore(this.kernel, halvesOf(address), budget) ?? this.#kernelSymbolBefore(address),
    );
  }

  #kernelSymbolBefore(address: bigint): KernelSymbol | undefined {
    const symbol = this.kernel.kallsyms.before(address);
    // Offsets of per-CPU variables and other absolute symbols are small numbers, and no places.
    if (symbol === undefined || symbol.address < KERNEL_HALF) return undefined;
    return address - symbol.address > MAX_SYMBOL_REACH ? undefined : symbol;
  }

  /** What the kernel's types say of a name such as `task_struct`, `enum pid_type` or `pid_t`. Throws GuestError "bad-request", "deadline". */
  type(name: string, budget = new Budget()): TypeLayout {
    // Enough of them for the clock to be looked at before each type.
    budget.spend(TYPE_STEPS);
    this.kernel.dropCaches();
    const types = this.#types();
    return layoutOf(types, findType(types, name));
  }

  /**
   * An object of such a type, at an address; members beyond what can be read say so.
   * Throws GuestError "bad-request", "no-such-process".
   */
  typeAt(
    name: string,
    address: bigint,
    options: { readonly space?: Space; readonly depth?: number } = {},
    budget = new Budget(),
  ): ObjectAnswer {
    const types = this.#types();
    const id = findType(types, name);
    const type = layoutOf(types, id);
    if (!(type.size > 0 && type.size <= MAX_READ))
      throw new GuestError("bad-request", `nothing of type '${name}' can be read: it has ${type.size} bytes`);
    const [found] = this.read([{ space: options.space ?? "kernel", address, length: type.size }], budget);
    const members = decodeObject(types, id, found!.bytes, budget, {
      symbolAt: this.#symbolNames(),
      depth: options.depth,
    });
    return { type, address: found!.address, members };
  }

  /** What an address of the kernel's image is called; empty for others. */
  #symbolNames(): (address: bigint) => string {
    const [start, end] = this.symbols(["_stext", "_end"]);
    return (address) => {
      if (start === undefined || end === undefined || address < start.address || address >= end.address) return "";
      const symbol = this.#kernelSymbolBefore(address);
      if (symbol === undefined) return "";
      const offset = address - symbol.address;
      return offset === 0n ? symbol.name : `${symbol.name}+${formatAddress(offset)}`;
    };
  }
}

/** Finds the kernel that runs in a guest. Throws GuestError; see attachKernel. */
export function attach(memory: PhysicalMemory, options: AttachOptions = {}): Guest {
  return new Guest(memory, options);
}

const EMPTY = new Uint8Array(0);

/** The address spaces that one request names. */
class Spaces {
  readonly #kernel: Kernel;
  readonly #budget: Budget;
  readonly #processes = new Map<number, Halves>();

  constructor(kernel: Kernel, budget: Budget) {
    this.#kernel = kernel;
    this.#budget = budget;
  }

  /** Good until another space is asked for. Throws GuestError "no-such-process". */
  of(space: Exclude<Space, "physical">): AddressSpace {
    requireKernel(this.#kernel);
    if (space === "kernel") return this.#kernel.space;
    const mm = this.#processes.get(space.pid) ?? this.#find(space.pid);
    this.#processes.set(space.pid, mm);
    const found = isNull(mm) ? this.#kernel.space : userSpace(this.#kernel, mm);
    if (found === undefined)
      throw new GuestError("inconsistent", `the page tables of process ${space.pid} can't be read`);
    return found;
  }

  read(space: Exclude<Space, "physical">, address: bigint, target: Uint8Array): number {
    const { hi, lo } = halvesOf(address);
    return this.of(space).read(hi, lo, target);
  }

  #find(pid: number): Halves {
    const task = findProcess(this.#kernel, pid, this.#budget);
    if (task === undefined) throw new GuestError("no-such-process", `the guest has no process ${pid}`);
    const mm = processMember(this.#kernel, task, this.#kernel.layout(taskStruct).mm, this.#budget);
    if (mm === undefined) throw new GuestError("inconsistent", `process ${pid} can't be read`);
    return mm;
  }
}

/** What was cleared, overwritten or has ended with its hypervisor is not there, which is no answer about it. */
function requireKernel(kernel: Kernel): void {
  const { hi, lo } = kernel.place(initTask);
  if (kernel.space.resolve(hi, lo) < 0) throw kernelGone(kernel);
}

function readPhysical(memory: PhysicalMemory, address: bigint, target: Uint8Array): number {
  const start = Number(address);
  let done = 0;
  while (done < target.length) {
    const gpa = start + done;
    const count = Math.min(target.length - done, 4096 - (gpa % 4096));
    const index = memory.locate(gpa);
    if (index < 0) break;
    target.set(memory.bytes.subarray(index, index + count), done);
    done += count;
  }
  return done;
}

function resolveAddress(item: ReadItem, results: readonly ReadResult[]): bigint | undefined {
  if (item.after === undefined) return BigInt.asUintN(64, item.address);
  const earlier = results[item.after.item]?.bytes;
  const { offset } = item.after;
  if (earlier === undefined || !(offset >= 0 && offset + 8 <= earlier.length)) return undefined;
  const view = new DataView(earlier.buffer, earlier.byteOffset + offset, 8);
  return BigInt.asUintN(64, gvaOf(view.getInt32(4, true), view.getInt32(0, true)) + item.address);
}

/** Throws GuestError "bad-request" for what is over the limits of one request, or in no order. */
export function checkBatch(items: readonly Pick<ReadItem, "length" | "after">[]): void {
  if (items.length > MAX_ITEMS) throw tooMany("reads", MAX_ITEMS);
  let total = 0;
  items.forEach((item, i) => {
    if (!Number.isInteger(item.length) || item.length < 0)
      throw new GuestError("bad-request", `${item.length} is no number of bytes to read`);
    if (item.length > MAX_READ)
      throw new GuestError(
        "bad-request",
        `a read of ${item.length} bytes is over the limit of ${MAX_READ}; split it, or stream the memory`,
      );
    if (item.after !== undefined && item.after.item >= i)
      throw new GuestError("bad-request", `item ${i} comes after item ${item.after.item}, which is not earlier`);
    total += item.length;
  });
  if (total > MAX_BATCH)
    throw new GuestError(
      "bad-request",
      `a batch of ${total} bytes is over the limit of ${MAX_BATCH}; split it, or stream the memory`,
    );
}

function tooMany(what: string, limit: number): GuestError {
  return new GuestError("bad-request", `more than ${limit} ${what} in one request; split it`);
}
