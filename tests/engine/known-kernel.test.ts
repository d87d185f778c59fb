// A kernel that a profile knows is found through the vCPUs' registers, without a search of memory; one that a profile
// lies about is found all the same.
import assert from "node:assert/strict";
import { test } from "node:test";
import { attach } from "../../vmi/index.ts";
import { Subject } from "./support.ts";

test("a known kernel is found without a search of memory", { timeout: 120_000 }, async (t) => {
  await using subject = await Subject.boot({ kernel: "6.12", la57: true, vcpus: 2 });
  const registers = await subject.registers();
  const { memory } = subject;
  const first = attach(memory, { registers });
  assert.equal(first.profileWasCached, false);

  const searches = t.mock.method(memory, "scan").mock;
  const again = attach(memory, { registers, profiles: [first.profile] });
  assert.equal(again.profileWasCached, true);
  assert.equal(searches.callCount(), 0, "memory was searched though the kernel is known");
  assert.equal(again.kernel.release, first.kernel.release);
  assert.equal(again.table("processes").rows > 10, true);

  assert.equal(attach(memory, { profiles: [first.profile] }).profileWasCached, true);
  assert.equal(searches.callCount(), 1, "without registers there is nothing but a search");

  const misled = JSON.parse(Buffer.from(first.profile).toString()) as { noteHint: number[] };
  misled.noteHint[0]! += 4096;
  const recovered = attach(memory, { registers, profiles: [Buffer.from(JSON.stringify(misled))] });
  assert.equal(searches.callCount(), 2, "a wrong hint leads to a search");
  assert.equal(recovered.kernel.release, first.kernel.release);
});
