import { GuestError } from "../errors.ts";
import type { Section } from "./kernel-file.ts";

/**
 * Where the kernel changes its own text, by the tables that it was linked with. From the file they are as no guest can have
 * changed them; where those lie that are in no section of their own, the guest's symbols say, and each place has to hold
 * what such a place has. Without a file they are those in the guest's memory (linux/live-text.ts).
 */
export type SiteKind =
  /** The call of the function tracer at a function's entry. */
  | "ftrace"
  | "jump-label"
  | "static-call"
  /** A jump that stands for a function that static calls go to. */
  | "static-trampoline"
  | "alternative"
  | "paravirt"
  | "retpoline"
  | "return"
  | "call"
  /** Where an indirect branch may land, made unusable as none does. */
  | "endbr"
  | "lock"
  /** A constant that is known only when the kernel starts. */
  | "constant";

const SITE_KINDS: readonly SiteKind[] = [
  "ftrace",
  "jump-label",
  "static-call",
  "static-trampoline",
  "alternative",
  "paravirt",
  "retpoline",
  "return",
  "call",
  "endbr",
  "lock",
  "constant",
];

export interface Site {
  readonly kind: SiteKind;
  /** Lower half of its address: the one that it was linked for, or of a live kernel where it is. */
  readonly at: number;
  readonly length: number;
  /**
   * Of an alternative where its instructions lie and how many bytes they have; of a jump label where it jumps to; of a
   * static call whether it is a jump; else 0.
   */
  readonly other: number;
  readonly otherLength: number;
}

/** `other` of a static call that ends its function: a jump (STATIC_CALL_SITE_TAIL). */
export const STATIC_CALL_TAIL = 1;

const FIELDS = 3;
const MAX_LENGTH = 255;

/** Some 400,000 places, as numbers. */
export class SiteList {
  /** By address: which one it is, of those in `#fields`. */
  #order = new Float64Array(0);
  #fields = new Uint32Array(1 << 16);
  #count = 0;

  /** Throws GuestError "unsupported-kernel" for more than any kernel has. */
  add(kind: SiteKind, at: number, length: number, other = 0, otherLength = 0): void {
    if (this.#count === MAX_SITES)
      throw new GuestError(
        "unsupported-kernel",
        `the kernel says that it changes its text at over ${MAX_SITES} places`,
      );
    if ((this.#count + 1) * FIELDS > this.#fields.length) {
      const larger = new Uint32Array(this.#fields.length * 2);
      larger.set(this.#fields);
      this.#fields = larger;
    }
    const from = this.#count++ * FIELDS;
    this.#fields[from] = at;
    this.#fields[from + 1] = other;
    this.#fields[from + 2] = SITE_KINDS.indexOf(kind) | (Math.min(length, MAX_LENGTH) << 8) | (otherLength << 16);
  }

  get count(): number {
    return this.#count;
  }

  /** To be called when all have been added. */
  sort(): void {
    this.#order = new Float64Array(this.#count);
    for (let i = 0; i < this.#count; i++) this.#order[i] = this.#fields[i * FIELDS]! * MAX_SITES + i;
    this.#order.sort();
  }

  /** Visits those that an address is in, until one is found that `visit` says true of. */
  some(address: number, visit: (site: Site) => boolean): boolean {
    for (let i = this.#firstBehind(address) - 1; i >= 0; i--) {
      const site = this.#site(this.#order[i]! % MAX_SITES);
      if (site.at + MAX_LENGTH <= address) return false;
      if (site.at + site.length > address && visit(site)) return true;
    }
    return false;
  }

  /** All of them, by address. */
  *[Symbol.iterator](): Generator<Site> {
    for (const key of this.#order) yield this.#site(key % MAX_SITES);
  }

  #site(index: number): Site {
    const from = index * FIELDS;
    const packed = this.#fields[from + 2]!;
    return {
      kind: SITE_KINDS[packed & 0xff]!,
      at: this.#fields[from]!,
      length: (packed >>> 8) & 0xff,
      other: this.#fields[from + 1]!,
      otherLength: packed >>> 16,
    };
  }

  #firstBehind(address: number): number {
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#order[middle]! < (address + 1) * MAX_SITES) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** With 32 bits of an address still exact in a number. */
const MAX_SITES = 1 << 20;

/** Where tables are that are in no section of their own: lower halves, as linked; undefined where the kernel has none. */
export interface TableBounds {
  readonly ftrace: readonly [number, number] | undefined;
  readonly jumpLabels: readonly [number, number] | undefined;
  readonly staticCalls: readonly [number, number] | undefined;
}

/** Where members of struct alt_instr are; sizeof 0 where that is not known. */
export interface AlternativeLayout {
  readonly sizeof: number;
  readonly instr_offset: number;
  readonly repl_offset: number;
  readonly instrlen: number;
  readonly replacementlen: number;
}

/** Sections of 32-bit distances from themselves (arch/x86/kernel/vmlinux.lds.S), and how long each place is. */
const distances: readonly (readonly [string, SiteKind, number])[] = [
  [".retpoline_sites", "retpoline", 6],
  [".return_sites", "return", 5],
  [".call_sites", "call", 5],
  [".ibt_endbr_seal", "endbr", 4],
];
/** include/asm-generic/runtime-const.h, from 6.12 (e3c92e81711d): 64-bit pointers and 8-bit shifts. */
const RUNTIME_POINTER = "runtime_ptr_";
const RUNTIME_SHIFT = "runtime_shift_";

const JUMP_ENTRY = 16;
const STATIC_CALL_SITE = 8;
const PARAVIRT_SITE = 16;

/** Sections of a kernel by address. */
export class Sections {
  readonly #sections: readonly Section[];

  constructor(sections: readonly Section[]) {
    this.#sections = sections;
  }

  named(name: string): Section | undefined {
    return this.#sections.find((section) => section.name === name);
  }

  startingWith(prefix: string): readonly Section[] {
    return this.#sections.filter(({ name }) => name.startsWith(prefix));
  }

  /** Undefined where not all of them are in one section. */
  bytes(address: number, length: number): Uint8Array | undefined {
    const found = this.#sections.find(
      (section) => address >= section.address && address < section.address + section.bytes.length,
    );
    if (found === undefined) return undefined;
    const from = address - found.address;
    return from + length <= found.bytes.length ? found.bytes.subarray(from, from + length) : undefined;
  }
}

/** All places; one can be in several tables. Throws GuestError "bad-request". */
export function patchSites(sections: Sections, bounds: TableBounds, alternative: AlternativeLayout): SiteList {
  const sites = new SiteList();
  for (const [name, kind, length] of distances) distanceSites(sites, sections.named(name), kind, length);
  distanceSites(sites, sections.named(".smp_locks"), "lock", LOCK_SIZE);
  for (const section of sections.startingWith(RUNTIME_POINTER)) distanceSites(sites, section, "constant", 8);
  for (const section of sections.startingWith(RUNTIME_SHIFT)) distanceSites(sites, section, "constant", 1);
  ftraceSites(sites, sections, bounds.ftrace);
  jumpLabels(sites, sections, table(sections, bounds.jumpLabels));
  const trampolines = new Set(staticCalls(sites, sections, table(sections, bounds.staticCalls)));
  for (const target of trampolines) sites.add("static-trampoline", target, 8);
  alternatives(sites, sections.named(".altinstructions"), alternative);
  paravirtSites(sites, sections.named(".parainstructions"));
  sites.sort();
  return sites;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A table of the kernel, and the lower half of the address where it is. */
export type PatchTable = Pick<Section, "address" | "bytes">;

/** Places by 32-bit distances from where each is written down. */
export function distanceSites(sites: SiteList, table: PatchTable | undefined, kind: SiteKind, length: number): void {
  if (table === undefined) return;
  const view = viewOf(table.bytes);
  for (let i = 0; i + 4 <= table.bytes.length; i += 4) {
    sites.add(kind, (table.address + i + view.getInt32(i, true)) >>> 0, length);
  }
}

/** The prefix of a locked instruction is a byte (arch/x86/include/asm/alternative.h: LOCK_PREFIX). */
export const LOCK_SIZE = 1;

function table(sections: Sections, bounds: readonly [number, number] | undefined): PatchTable | undefined {
  if (bounds === undefined || bounds[0] === bounds[1]) return undefined;
  const [address, end] = bounds;
  const bytes = end > address ? sections.bytes(address, end - address) : undefined;
  if (bytes === undefined)
    throw new GuestError("bad-request", "the kernel image that was supplied does not fit the guest's symbols");
  return { address, bytes };
}

const NO_TABLE: PatchTable = { address: 0, bytes: new Uint8Array() };

/** include/linux/ftrace.h: dyn_ftrace is made from a list of addresses. */
function ftraceSites(sites: SiteList, sections: Sections, bounds: TableBounds["ftrace"]): void {
  const { bytes } = table(sections, bounds) ?? NO_TABLE;
  const view = viewOf(bytes);
  for (let i = 0; i + 8 <= bytes.length; i += 8) {
    const at = view.getUint32(i, true);
    // The call of the tracer, or the nop that the build made of it.
    const first = sections.bytes(at, 5)?.[0];
    if (first === 0xe8 || first === 0x0f) sites.add("ftrace", at, 5);
  }
}

/** include/linux/jump_label.h: distances of the code and of where it jumps to, each from itself. */
export function jumpLabels(sites: SiteList, sections: Sections, { address, bytes }: PatchTable = NO_TABLE): void {
  const view = viewOf(bytes);
  for (let entry = 0; entry + JUMP_ENTRY <= bytes.length; entry += JUMP_ENTRY) {
    const at = (address + entry + view.getInt32(entry, true)) >>> 0;
    const other = (address + entry + 4 + view.getInt32(entry + 4, true)) >>> 0;
    const code = sections.bytes(at, 5);
    if (code !== undefined) sites.add("jump-label", at, isLongLabel(code, at, other) ? 5 : 2, other);
  }
}

/** jmp of 32 bits or the nop of as many bytes; the first of which is a breakpoint while the place is being changed. */
function isLongLabel(code: Uint8Array, at: number, target: number): boolean {
  const [first, second] = code;
  if (first !== 0xcc) return first === 0xe9 || first === 0x0f;
  const distance = viewOf(code).getInt32(1, true);
  return (second === 0x1f && distance === 0x0000_441f) || (at + 5 + distance) >>> 0 === target;
}

/** include/linux/static_call_types.h. @returns where each leads: as linked, to the jumps that stand for the functions. */
export function staticCalls(sites: SiteList, sections: Sections, { address, bytes }: PatchTable = NO_TABLE): number[] {
  const targets: number[] = [];
  const view = viewOf(bytes);
  for (let entry = 0; entry + STATIC_CALL_SITE <= bytes.length; entry += STATIC_CALL_SITE) {
    const at = (address + entry + view.getInt32(entry, true)) >>> 0;
    const code = sections.bytes(at, 6);
    if (code === undefined) continue;
    // A conditional jump from 6.2 on (db7adcfd1cec).
    const length = code[0] === 0x0f && (code[1]! & 0xf0) === 0x80 ? 6 : 5;
    targets.push((at + length + viewOf(code).getInt32(length - 4, true)) >>> 0);
    sites.add("static-call", at, length, view.getInt32(entry + 4, true) & STATIC_CALL_TAIL);
  }
  return targets;
}

/** arch/x86/include/asm/alternative.h: distances from the members themselves. */
function alternatives(sites: SiteList, section: Section | undefined, layout: AlternativeLayout): void {
  if (section === undefined || layout.sizeof === 0) return;
  const view = viewOf(section.bytes);
  for (let entry = 0; entry + layout.sizeof <= section.bytes.length; entry += layout.sizeof) {
    const distance = (member: number) => (section.address + entry + member + view.getInt32(entry + member, true)) >>> 0;
    const [at, other] = [distance(layout.instr_offset), distance(layout.repl_offset)];
    sites.add(
      "alternative",
      at,
      view.getUint8(entry + layout.instrlen),
      other,
      view.getUint8(entry + layout.replacementlen),
    );
  }
}

/** struct paravirt_patch_site, until 6.8 (60bc276b129e): an address, a kind and a length. */
function paravirtSites(sites: SiteList, section: Section | undefined): void {
  if (section === undefined) return;
  const view = viewOf(section.bytes);
  for (let i = 0; i + PARAVIRT_SITE <= section.bytes.length; i += PARAVIRT_SITE) {
    sites.add("paravirt", view.getUint32(i, true), view.getUint8(i + 9));
  }
}
