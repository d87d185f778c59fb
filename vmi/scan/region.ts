/** What is looked through by a scan: bytes, where they are, and how to call that place. */
import type { Integer } from "../bytes/integer.ts";

/** Names and paths are the guest's bytes. */
export type Place =
  | {
      readonly kind: "process";
      readonly pid: number;
      /** `comm` */
      readonly name: Uint8Array;
      /** The mapping, [start, end). */
      readonly start: bigint;
      readonly end: bigint;
      /** As in /proc/PID/maps. */
      readonly permissions: string;
      /** Path of its file, or [heap], [stack] and the like; undefined for nameless memory. */
      readonly mapping: Uint8Array | undefined;
    }
  | {
      readonly kind: "kernel";
      /** image and modules with their data; vmalloc: buffers, stacks, programs; slab: the kernel's objects. */
      readonly area: "image" | "module" | "other" | "vmalloc" | "slab";
      readonly module: string | undefined;
      /** `linux_banner+0x10`, where a symbol is known. */
      readonly symbol: string | undefined;
    }
  | {
      readonly kind: "file";
      /** Undefined when no name of it is in memory. */
      readonly path: Uint8Array | undefined;
      readonly inode: Integer | undefined;
      /** major:minor */
      readonly device: string | undefined;
      /** It has no name in a directory any more, or never had one. */
      readonly deleted: boolean;
    }
  | { readonly kind: "physical" };

export interface Region {
  /** Of the first byte: virtual, physical, or an offset in the file. */
  readonly address: bigint;
  /** Good until the next region is asked for. */
  readonly bytes: Uint8Array;
  /** For each page, 1 if it has not been part of an earlier region: what lies wholly in others has been found there. */
  readonly fresh: Uint8Array;
  /** The place of the byte at an address of the region. */
  place(address: bigint): Place;
}

/** What can be scanned. */
export type ScanTarget = "processes" | "kernel" | "page-cache" | "physical";

export interface RegionQuery {
  readonly target: ScanTarget;
  /** Of processes only these; undefined: all. */
  readonly pids?: ReadonlySet<number> | undefined;
}
