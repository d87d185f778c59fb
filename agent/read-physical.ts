/** Guest physical memory where there is no kernel to ask about: bytes are copied, as for a stream, and nothing is parsed. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { ReadMemoryRequest, ReadResultSchema } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import type { GuestMemoryLayout } from "../vmi/index.ts";
import { checkBatch, GuestError } from "../vmi/index.ts";
import { readRam } from "./read-ram.ts";

type Items = ReadMemoryRequest["items"];

/** True for reads that need neither page tables nor what an earlier one has found. */
export function isPhysicalAlone(items: Items): boolean {
  return items.length > 0 && items.every(({ space, after }) => space?.space.case === "physical" && after === undefined);
}

/** Of each item the bytes up to the first that is not RAM. @throws ConnectError InvalidArgument for more than a batch may have, and as readRam(). */
export async function readPhysical(
  { ranges, backings }: GuestMemoryLayout,
  items: Items,
): Promise<MessageInitShape<typeof ReadResultSchema>[]> {
  try {
    checkBatch(items);
  } catch (error) {
    throw error instanceof GuestError ? new ConnectError(error.message, Code.InvalidArgument) : error;
  }
  const results: MessageInitShape<typeof ReadResultSchema>[] = [];
  for (const { address, length } of items) {
    const data = Buffer.alloc(length);
    let done = 0;
    while (done < length) {
      const gpa = Number(address) + done;
      const range = ranges.find((each) => gpa >= each.gpa && gpa < each.gpa + each.length);
      if (range === undefined) break;
      const size = Math.min(length - done, range.gpa + range.length - gpa);
      const bytesRead = await readRam(backings[range.backing]!, data, done, size, range.offset + gpa - range.gpa);
      done += bytesRead;
      if (bytesRead < size) break;
    }
    const error = done === length ? "" : `0x${(address + BigInt(done)).toString(16)} is not mapped to memory`;
    results.push({ data: data.subarray(0, done), address, error });
  }
  return results;
}
