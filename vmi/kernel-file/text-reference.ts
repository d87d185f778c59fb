import type { KernelFile, Relocations, Section } from "./kernel-file.ts";
import { type AlternativeLayout, patchSites, Sections, type SiteList, type TableBounds } from "./patch-sites.ts";

/** The kernel's text as it was linked, moved to where a guest has it, and where the kernel changes it. */
export interface TextReference {
  readonly bytes: Buffer;
  /** Lower half of the address where it is, and how far it was moved. */
  readonly start: number;
  readonly moved: number;
  readonly sites: SiteList;
  /** Instructions that alternatives put in place of others, moved too; their address is as linked. */
  readonly replacements: Section | undefined;
  /** Text that was found to be as it should be: what is the same needs no other look. */
  readonly settled: Buffer;
}

const TEXT = ".text";
const REPLACEMENTS = ".altinstr_replacement";

/** @param moved bytes that KASLR moved the kernel by. Throws GuestError "bad-request". */
export function textReference(
  file: KernelFile,
  moved: number,
  bounds: TableBounds,
  alternative: AlternativeLayout,
): TextReference | undefined {
  const sections = new Sections(file.sections);
  const text = sections.named(TEXT);
  if (text === undefined || (file.relocations === undefined && moved !== 0)) return undefined;
  const bytes = movedBytes(text, file.relocations, moved);
  const own = sections.named(REPLACEMENTS);
  return {
    bytes,
    start: (text.address + moved) >>> 0,
    moved,
    sites: patchSites(sections, bounds, alternative),
    replacements: own && { ...own, bytes: movedBytes(own, file.relocations, moved) },
    settled: Buffer.from(bytes),
  };
}

/** A copy, so that the file need not stay in memory. */
function movedBytes({ address, bytes: linked }: Section, relocations: Relocations | undefined, moved: number): Buffer {
  const bytes = Buffer.from(linked);
  const { words, inverse, quads } = relocations ?? NONE;
  const within = (place: number, length: number) => place >= address && place + length <= address + bytes.length;
  for (const [list, by] of [
    [words, moved],
    [inverse, -moved],
  ] as const) {
    for (const place of list) {
      if (within(place, 4)) bytes.writeInt32LE((bytes.readInt32LE(place - address) + by) | 0, place - address);
    }
  }
  for (const place of quads) {
    const at = place - address;
    if (within(place, 8)) bytes.writeBigUInt64LE(BigInt.asUintN(64, bytes.readBigUInt64LE(at) + BigInt(moved)), at);
  }
  return bytes;
}

const NONE: Relocations = { words: [], inverse: [], quads: [] };
