// The search for a kernel's symbols, as it is done for kernels before 6.0, on kernels that say where they are.
import assert from "node:assert/strict";
import { type Candidate, proveNote } from "../../vmi/candidate.ts";
import type { Guest, PhysicalMemory } from "../../vmi/index.ts";
import { imagePieces } from "../../vmi/kernel-image.ts";
import { openKernel } from "../../vmi/open-kernel.ts";
import { openSymbols } from "../../vmi/open-symbols.ts";
import { findVmcoreinfo, type Vmcoreinfo } from "../../vmi/symbols/vmcoreinfo.ts";

/** What VMCOREINFO did not say before 6.0, 5.9 and 5.11. */
const laterFields = /kallsyms_|BUILD-ID/;

/** Finds the symbols without the note's help and compares them with those that the note leads to. Returns what it took. */
export function compareSearch(memory: PhysicalMemory, guest: Guest): string {
  const candidate = withoutPlaces(memory, guest);
  const start = performance.now();
  const found = openSymbols(candidate, [], undefined);
  const milliseconds = performance.now() - start;
  const told = guest.kernel.kallsyms;
  assert.equal(found.kallsyms.count, told.count);
  const own = told[Symbol.iterator]();
  for (const symbol of found.kallsyms) assert.deepEqual(symbol, own.next().value);
  assert.equal(own.next().done, true);
  assert.equal(found.buildId, guest.kernel.buildId);

  const [hint] = found.hint;
  assert.ok(hint !== undefined);
  const digits = candidate.stext + BigInt(hint);
  const holds = [...imagePieces(candidate, true)].some(
    ({ address, length }) => digits >= address && digits < address + BigInt(length),
  );
  assert.ok(holds, "the table is in what nobody may write");

  const first = openKernel(candidate, [], undefined);
  assert.equal(first.profileWasCached, false);
  assert.deepEqual(first.kernel.profile.structs, guest.kernel.profile.structs);
  assert.deepEqual(first.kernel.profile.symbols, guest.kernel.profile.symbols);
  const again = performance.now();
  assert.equal(openKernel(candidate, [first.kernel.profile], undefined).profileWasCached, true);
  const known = performance.now() - again;
  return `${told.count} symbols found in ${milliseconds.toFixed(1)} ms; attached by a profile in ${known.toFixed(1)} ms`;
}

/** The guest's kernel, as if its note were that of an older one. */
function withoutPlaces(memory: PhysicalMemory, { kernel }: Guest): Candidate {
  let found: Candidate | undefined;
  findVmcoreinfo(memory, (note) => {
    const fields = new Map([...note.fields].filter(([key]) => !laterFields.test(key)));
    const older: Vmcoreinfo = { ...note, fields };
    const candidate = proveNote(memory, older);
    if (typeof candidate === "string" || candidate.space.pgd !== kernel.space.pgd) return false;
    found = candidate;
    return true;
  });
  assert.ok(found !== undefined);
  return found;
}
