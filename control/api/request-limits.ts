// What a request may be before it is decoded, by its method. Most are tiny; one that is not takes the only thread's time.
import type { DescMethod } from "@bufbuild/protobuf";
import { GuestService } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { SqlService } from "../../proto/gen/cloudvmi/v1/sql_pb.ts";
import { pathOf, type RequestLimits } from "../../wire/index.ts";
import { isOpen } from "./rpc.ts";

const kib = 1024;
/** The VM, and what newer clients may add. */
const few = 100;

const tiny: RequestLimits = { bytes: 256, values: 16 };
const usual: RequestLimits = { bytes: 16 * kib, values: 1000 };
/** Values are what the largest batch has, and somewhat more for lists whose limit is for the agent to explain. */
const larger = new Map<DescMethod, RequestLimits>([
  [GuestService.method.readTable, { bytes: 512 * kib, values: 20_000 }],
  // 4096 items of space and its choice, address, length, and an earlier item with its index and offset.
  [GuestService.method.readMemory, { bytes: 512 * kib, values: 8 * 4096 + few }],
  // 65,536 addresses of processes take 1.5 MiB.
  [GuestService.method.translate, { bytes: 2048 * kib, values: 4 * 65_536 + few }],
  [GuestService.method.lookupSymbols, { bytes: 2048 * kib, values: 10_000 }],
  // 1.5 MiB of rules in 1024 files.
  [GuestService.method.scan, { bytes: 2048 * kib, values: 40_000 }],
  // A statement of 64 KiB over 1000 VMs by name.
  [SqlService.method.query, { bytes: 512 * kib, values: 5000 }],
]);
const byPath = new Map([...larger].map(([method, limits]) => [pathOf(method), limits]));

/** The largest request of any method. */
export const maxRequestBytes = 2048 * kib;
/** Of a client that has not said who it is: enough for whatever it may be told to send a token with. */
export const maxStrangerBytes = 64 * kib;

/** What a request of the method at this path may be. */
export function requestLimits(path: string): RequestLimits {
  return isOpen(path) ? tiny : (byPath.get(path) ?? usual);
}
