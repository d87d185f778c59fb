import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { ScanRequest, ScanResponseSchema } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { ScanEnd } from "../../proto/gen/cloudvmi/v1/scan_pb.ts";

const match = {
  rule: "found",
  tags: ["lab"],
  meta: [{ name: "level", value: "3" }],
  pattern: "$a",
  address: 0x5555_0000_0ffbn,
  length: 4n,
  context: Buffer.from("before the \x1b[31mneedle"),
  contextBefore: 16,
};
const process = {
  pid: 77,
  name: Buffer.from("\x1b[31m"),
  start: 0x5555_0000_0000n,
  end: 0x5555_0000_2000n,
  permissions: "rw-p",
};

/** A match in a place of each kind, then what was asked for; rules with the word "wrong" are refused. */
export function* scanUpdates(request: ScanRequest): Generator<MessageInitShape<typeof ScanResponseSchema>> {
  const { rules, target, pids, maxMatches, maxBytes, timeLimitMs } = request;
  const [first] = rules;
  if (first?.source.includes("wrong"))
    throw new ConnectError(`${first.name}:1:2: syntax error: unexpected \`wrong\``, Code.InvalidArgument);
  const found = { ...match, namespace: rules.map(({ name }) => name).join("+") };
  yield {
    matches: [
      { ...found, place: { place: { case: "process", value: process } } },
      { ...found, place: { place: { case: "kernel", value: { area: "image", symbol: "linux_banner" } } } },
      { ...found, place: { place: { case: "file", value: { path: Buffer.from("/a"), inode: 9n, deleted: true } } } },
      { ...found, pattern: "", place: { place: { case: "physical", value: true } } },
    ],
    progress: { bytes: 4096n, matches: 4n },
  };
  const notes = [`asked ${target} ${pids.join("+")} ${maxMatches} ${maxBytes} ${timeLimitMs}`];
  yield { summary: { bytes: 8192n, matches: 4n, end: ScanEnd.MATCHES, notes, microseconds: 1_500_000n } };
}
