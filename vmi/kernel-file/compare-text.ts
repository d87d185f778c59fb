import type { Site, SiteList } from "./patch-sites.ts";
import type { TextReference } from "./text-reference.ts";
import { isExpectedChange, isLasting, isOwnState, type TextPair } from "./verify-site.ts";

/** What a guest's text has that the kernel did not make of it: offsets from the text's start. */
export interface TextDifference {
  readonly from: number;
  readonly to: number;
}

/** Changes that are no further apart than this are told as one: instructions of which some bytes are as they were. */
const GAP = 16;
const MAX_DIFFERENCES = 4096;

export interface TextJudges {
  readonly mayCall: (address: number) => boolean;
  readonly isTracer: (address: number) => boolean;
  readonly codeAt: (address: number, length: number) => Uint8Array | undefined;
  /** Bytes from an offset on that are changed for another reason, as by a probe; 0 where they are not. */
  readonly otherwise: (offset: number, text: TextPair) => number;
}

/**
 * Compares a kernel's text with what was linked. A difference is expected where the kernel's own tables say that it
 * changes its text there, and what is found is what it makes of it.
 *
 * @param found a copy of the guest's text, as long as the reference
 */
export function compareText(reference: TextReference, found: Buffer, judges: TextJudges): TextDifference[] {
  const { settled, start, moved, sites } = reference;
  const text = pairOf(reference, found, judges);
  const base = start - moved;
  const differences: { from: number; to: number }[] = [];
  /** Up to here everything was looked at, and is expected. */
  let good = 0;
  const explain = (offset: number) => {
    const known = sites.some(base + offset, (site) => {
      if (!isExpectedChange(site, text)) return false;
      const from = site.at - base;
      good = from + site.length;
      if (isLasting(site, text)) found.copy(settled, from, from, good);
      return true;
    });
    if (known) return;
    const other = judges.otherwise(offset, text);
    if (other > 0) good = offset + other;
    else add(differences, offset);
  };
  const [a, b] = [words(found), words(settled)];
  for (let word = nextDifference(a, b, 0); word >= 0; word = nextDifference(a, b, word + 1)) {
    for (let offset = word * 4; offset < word * 4 + 4; offset++) {
      if (offset >= good && found[offset] !== settled[offset]) explain(offset);
    }
    if (differences.length >= MAX_DIFFERENCES) break;
  }
  return differences;
}

export interface SiteVerdict {
  /** Those that hold nothing that the kernel makes of such a place, by address. */
  readonly strange: readonly Site[];
  /** False where what one holds is right only as long as the kernel has it in its lists. */
  readonly lasting: boolean;
}

/**
 * Looks at the places that change while the kernel runs, whatever they held before: of a text of which nothing earlier is
 * known.
 *
 * @param start lower half of the address where it is; the places are where the guest has them
 * @param told differences, ascending, within which nothing need be told again
 * @param most places that are told; the rest is not looked at then
 */
export function judgeSites(
  start: number,
  found: Buffer,
  sites: SiteList,
  judges: TextJudges,
  told: readonly TextDifference[],
  most: number,
): SiteVerdict {
  const text = pairOf({ bytes: found, start, moved: 0, sites, replacements: undefined }, found, judges);
  const strange: Site[] = [];
  let lasting = true;
  let next = 0;
  for (const site of sites) {
    if (isOwnState(site, text)) {
      lasting &&= isLasting(site, text);
      continue;
    }
    const from = site.at - start;
    while (next < told.length && told[next]!.to <= from) next++;
    if (next < told.length && told[next]!.from < from + site.length) continue;
    if (strange.push(site) === most) break;
  }
  return { strange, lasting };
}

function pairOf(
  { bytes, start, moved, sites, replacements }: Omit<TextReference, "settled">,
  found: Buffer,
  judges: TextJudges,
): TextPair {
  return {
    found,
    linked: bytes,
    start,
    moved,
    mayCall: judges.mayCall,
    isTracer: judges.isTracer,
    codeAt: judges.codeAt,
    linkedBytes: (at, length) => {
      const from = at - (replacements?.address ?? 0);
      return from >= 0 ? replacements?.bytes.subarray(from, from + length) : undefined;
    },
    some: (address, visit) => sites.some(address, visit),
  };
}

function add(differences: { from: number; to: number }[], offset: number): void {
  const last = differences.at(-1);
  if (last !== undefined && offset - last.to < GAP) last.to = offset + 1;
  else differences.push({ from: offset, to: offset + 1 });
}

/** A function of its own, so that it is compiled as a loop of nothing else; -1 where there is none. */
function nextDifference(a: Int32Array, b: Int32Array, from: number): number {
  for (let word = from; word < a.length; word++) if (a[word] !== b[word]) return word;
  return -1;
}

function words(bytes: Buffer): Int32Array {
  return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
}
