/** Places and matches as the public contract describes them. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ScanMatchSchema, ScanPlaceSchema } from "../../proto/gen/cloudvmi/v1/scan_pb.ts";
import type { Place, Region } from "../../vmi/index.ts";
import type { FoundRule } from "./rules.ts";

type Match = MessageInitShape<typeof ScanMatchSchema>;

const pageSize = 4096;
/** Bytes that are shown before a match, and from its beginning on. */
const before = 16;
const after = 32;

export function placeMessage(place: Place): MessageInitShape<typeof ScanPlaceSchema> {
  switch (place.kind) {
    case "process":
      return { place: { case: "process", value: { ...place, mapping: place.mapping ?? none } } };
    case "kernel":
      return { place: { case: "kernel", value: { ...place, module: place.module ?? "", symbol: place.symbol ?? "" } } };
    case "file": {
      const { path = none, inode, device = "", deleted } = place;
      return { place: { case: "file", value: { path, inode: BigInt(inode ?? 0), device, deleted } } };
    }
    case "physical":
      return { place: { case: "physical", value: true } };
  }
}

const none = new Uint8Array(0);

/** The matches of a region that no earlier region had. */
export function* matchesIn(region: Region, bytes: Uint8Array, found: readonly FoundRule[]): Generator<Match> {
  for (const { matches, ...rule } of found) {
    // A rule without patterns speaks of the region as a whole.
    if (matches.length === 0) yield match(region, bytes, rule, { pattern: "", offset: 0, length: 0 });
    for (const each of matches) {
      if (isFresh(region.fresh, each.offset, each.length)) yield match(region, bytes, rule, each);
    }
  }
}

function isFresh(fresh: Uint8Array, offset: number, length: number): boolean {
  const first = Math.floor(offset / pageSize);
  const last = Math.floor((offset + Math.max(length, 1) - 1) / pageSize);
  return fresh.subarray(first, last + 1).includes(1);
}

function match(
  region: Region,
  bytes: Uint8Array,
  rule: Omit<FoundRule, "matches">,
  { pattern, offset, length }: FoundRule["matches"][number],
): Match {
  const address = region.address + BigInt(offset);
  const from = Math.max(0, offset - before);
  return {
    rule: rule.rule,
    namespace: rule.namespace,
    tags: [...rule.tags],
    meta: [...rule.meta],
    pattern,
    place: placeMessage(region.place(address)),
    address,
    length: BigInt(length),
    // A copy: the region's bytes are another's next.
    context: bytes.slice(from, offset + after),
    contextBefore: offset - from,
  };
}
