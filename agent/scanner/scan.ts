/** One scan: regions of memory one after another, rules upon each, until the end or a limit. */
import { setImmediate } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ScanResponseSchema } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { ScanEnd, type ScanMatchSchema } from "../../proto/gen/cloudvmi/v1/scan_pb.ts";
import { GuestError, type Region } from "../../vmi/index.ts";
import { matchesIn, placeMessage } from "./messages.ts";
import type { RuleSet } from "./rules.ts";

export interface ScanLimits {
  readonly matches: number;
  /** 0: none. */
  readonly bytes: number;
  /** As performance.now() has it. */
  readonly deadline: number;
}

export interface Scan {
  readonly regions: Iterator<Region>;
  readonly rules: RuleSet;
  readonly limits: ScanLimits;
  readonly signal: AbortSignal;
}

type Summary = NonNullable<MessageInitShape<typeof ScanResponseSchema>["summary"]>;
type Progress = NonNullable<MessageInitShape<typeof ScanResponseSchema>["progress"]>;

/** What a scan tells: matches as they are found, how far it is, and in the end how it ended. */
export interface Told {
  readonly matches: readonly MessageInitShape<typeof ScanMatchSchema>[];
  readonly progress: Progress;
  readonly end?: Pick<Summary, "bytes" | "matches" | "end" | "place" | "address">;
}

/** Work between two looks at what else there is to do, such as a call that its caller gives up; and between two messages. */
const turnMs = 20;
const tellMs = 500;
const pageSize = 4096;
/** Matches of one message. */
const batch = 256;

export async function* runScan({ regions, rules, limits, signal }: Scan): AsyncGenerator<Told> {
  let bytes = 0;
  let matches = 0;
  let told = performance.now();
  let turn = told;
  let region: Region | undefined;
  let waiting: MessageInitShape<typeof ScanMatchSchema>[] = [];
  const progress = (): Progress => ({
    bytes: BigInt(bytes),
    matches: BigInt(matches),
    ...(region ? { place: placeMessage(region.place(region.address)) } : {}),
  });
  const ended = (end: ScanEnd): Told => {
    const stopped = region && end !== ScanEnd.COMPLETE;
    const place = stopped ? { place: placeMessage(region!.place(region!.address)), address: region!.address } : {};
    return {
      matches: waiting,
      progress: progress(),
      end: { bytes: BigInt(bytes), matches: BigInt(matches), end, ...place },
    };
  };
  for (;;) {
    const now = performance.now();
    if (now > limits.deadline) return yield ended(ScanEnd.TIME);
    if (waiting.length >= batch || now - told > tellMs || (waiting.length > 0 && now - turn > turnMs)) {
      yield { matches: waiting, progress: progress() };
      waiting = [];
      told = now;
    }
    if (now - turn > turnMs) {
      await setImmediate();
      if (signal.aborted) return;
      turn = performance.now();
    }
    const step = next(regions);
    if (step === "late") return yield ended(ScanEnd.TIME);
    if (step.done) return yield ended(ScanEnd.COMPLETE);
    region = step.value;
    const left = limits.bytes === 0 ? region.bytes.length : Math.min(region.bytes.length, limits.bytes - bytes);
    const part = region.bytes.subarray(0, left);
    for (const match of matchesIn(region, part, rules.scan(part))) {
      if (matches === limits.matches) return yield ended(ScanEnd.MATCHES);
      matches++;
      waiting.push(match);
    }
    bytes += freshBytes(region.fresh, left);
    if (limits.bytes > 0 && (left < region.bytes.length || bytes === limits.bytes)) return yield ended(ScanEnd.BYTES);
  }
}

function next(regions: Iterator<Region>): IteratorResult<Region> | "late" {
  try {
    return regions.next();
  } catch (error) {
    if (error instanceof GuestError && error.kind === "deadline") return "late";
    throw error;
  }
}

/** Bytes of the first so many that are on fresh pages. */
function freshBytes(fresh: Uint8Array, length: number): number {
  let bytes = 0;
  for (let at = 0; at < length; at += pageSize)
    if (fresh[at / pageSize] === 1) bytes += Math.min(pageSize, length - at);
  return bytes;
}
