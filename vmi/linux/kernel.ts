import { START_KERNEL_MAP } from "../arch/x86-64.ts";
import { hiOf, loOf } from "../bytes/address.ts";
import { GuestError } from "../errors.ts";
import type { AddressSpace } from "../memory/address-space.ts";
import type { PhysicalMemory } from "../memory/physical-memory.ts";
import { Trail } from "../memory/trail.ts";
import type { Kallsyms } from "../symbols/kallsyms.ts";
import { type Profile, symbolPosition } from "../symbols/profile.ts";
import type { Layout, StructSpec, SymbolSpec } from "../symbols/specs.ts";

/** The two halves of a kernel address that doesn't change. */
export interface Place {
  readonly hi: number;
  readonly lo: number;
}

/** Bytes: larger structures are not believed, so that one always fits the memory's scratch area. */
const MAX_STRUCT = 1 << 16;

/** A running Linux kernel: its memory, its address space, and where things are in it. */
export class Kernel {
  readonly memory: PhysicalMemory;
  /** The kernel's own address space. */
  readonly space: AddressSpace;
  /** Borrowed for one process at a time: see linux/mm.ts. */
  readonly user: AddressSpace;
  /** What was followed in `space` on the way to what is being read; see linux/consistent.ts. */
  readonly trail: Trail;
  readonly kallsyms: Kallsyms;
  readonly profile: Profile;
  readonly release: string;
  readonly buildId: string;
  /** How far KASLR has moved the image, in bytes. */
  readonly kaslrOffset: number;
  readonly physBase: bigint;
  /** The kernel's image as it is installed, where it was given; a text says why one that was named could not be had. */
  readonly image: Uint8Array | string | undefined;
  readonly #layouts: (Layout | undefined)[] = [];
  /** null: the kernel lacks it. */
  readonly #places: (Place | null | undefined)[] = [];

  constructor(parts: {
    space: AddressSpace;
    kallsyms: Kallsyms;
    profile: Profile;
    release: string;
    kaslrOffset: number;
    physBase: bigint;
    image?: Uint8Array | string;
  }) {
    this.memory = parts.space.memory;
    this.space = parts.space;
    this.user = parts.space.sibling();
    this.trail = new Trail(this.space);
    this.space.trail = this.trail;
    this.kallsyms = parts.kallsyms;
    this.profile = parts.profile;
    this.buildId = parts.profile.buildId;
    this.release = parts.release;
    this.kaslrOffset = parts.kaslrOffset;
    this.physBase = parts.physBase;
    this.image = parts.image;
  }

  /** Forgets what was read for an earlier request. */
  dropCaches(): void {
    this.memory.dropCaches();
    this.space.flush();
    this.user.flush();
  }

  /** Where a structure's members are. Throws GuestError "unsupported-kernel" when a required one is missing. */
  layout<Key extends string>(spec: StructSpec<Key>): Layout<Key> {
    const known = this.#layouts[spec.id];
    if (known !== undefined) return known as Layout<Key>;
    const stored = this.profile.structs[spec.id] ?? [];
    if (stored.some((value) => value > MAX_STRUCT)) {
      throw new GuestError(
        "unsupported-kernel",
        `kernel ${this.release} says that struct ${spec.name} is larger than any`,
      );
    }
    if (stored.length === 0 && !spec.optional) throw this.#lacks(`struct ${spec.name}`, "in its types");
    const offsets = spec.members.map((member, i) => {
      const offset = stored[i + 1] ?? -1;
      if (offset < 0 && !member.optional && !spec.optional)
        throw this.#lacks(`${spec.name}.${member.paths.join(" or ")}`, "in its types");
      return [member.key, offset] as const;
    });
    const sizes = { sizeof: stored[0] ?? 0, extent: Math.max(0, ...stored.slice(1)) + 8 };
    // Made at once: adding members by computed names one by one leaves V8 with a hash table, several times slower to read.
    const layout = Object.fromEntries([...Object.entries(sizes), ...offsets]) as Layout<Key>;
    this.#layouts[spec.id] = layout;
    return layout;
  }

  /** Where a symbol is. Throws GuestError "unsupported-kernel" when the kernel lacks it. */
  place(spec: SymbolSpec): Place {
    const place = this.optionalPlace(spec);
    if (place === undefined) throw this.#lacks(`symbol ${spec.name}`, "(one of data needs CONFIG_KALLSYMS_ALL)");
    return place;
  }

  optionalPlace(spec: SymbolSpec): Place | undefined {
    const known = this.#places[spec.id];
    if (known !== undefined) return known ?? undefined;
    const position = symbolPosition(this.profile, spec);
    const found = position && this.kallsyms.at(position);
    const place = found?.name === spec.name ? { hi: hiOf(found.address), lo: loOf(found.address) } : undefined;
    this.#places[spec.id] = place ?? null;
    return place;
  }

  #lacks(what: string, where: string): GuestError {
    return new GuestError("unsupported-kernel", `kernel ${this.release} has no ${what} ${where}`);
  }
}

export function kernelGone(kernel: Kernel): GuestError {
  return new GuestError(
    "kernel-changed",
    `Linux ${kernel.release} is no longer in the guest's memory: it was reset or switched off; attach again`,
  );
}

/** Guest physical address of something within the kernel image: `pa = va - __START_KERNEL_map + phys_base`. */
export function imageGpa(address: bigint, physBase: bigint): number {
  return Number(address - START_KERNEL_MAP + physBase);
}
