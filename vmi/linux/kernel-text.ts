import { GuestError } from "../errors.ts";
import { readKernelFile } from "../kernel-file/kernel-file.ts";
import { type TextReference, textReference } from "../kernel-file/text-reference.ts";
import { type SymbolSpec, struct, symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";

/** Tables of where the kernel changes its text, which are in no section of their own (include/asm-generic/vmlinux.lds.h). */
export const patchTables = {
  ftrace: [symbol("?__start_mcount_loc"), symbol("?__stop_mcount_loc")],
  jumpLabels: [symbol("?__start___jump_table"), symbol("?__stop___jump_table")],
  staticCalls: [symbol("?__start_static_call_sites"), symbol("?__stop_static_call_sites")],
} as const;

/** arch/x86/include/asm/alternative.h: cpuid grew in 6.3 (5d1dd961e743), padlen was there until 5.10 (23c1ad538f4f). */
const altInstr = struct("?alt_instr", {
  instr_offset: "instr_offset",
  repl_offset: "repl_offset",
  instrlen: "instrlen",
  replacementlen: "replacementlen",
});

const references = new WeakMap<Kernel, TextReference | string | undefined>();

/**
 * The text of the kernel's image that was given, moved to where this guest has it; or why it is of no use, in
 * words; undefined where none was given. Made once: the file says it, not the guest.
 */
export function kernelTextReference(kernel: Kernel): TextReference | string | undefined {
  if (!references.has(kernel)) references.set(kernel, kernel.image && tryReference(kernel, kernel.image));
  return references.get(kernel);
}

/** A file that is of no use is no reason to refuse the guest. */
function tryReference(kernel: Kernel, image: Uint8Array | string): TextReference | string {
  if (typeof image === "string") return image;
  try {
    return makeReference(kernel, image);
  } catch (error) {
    if (error instanceof GuestError && error.kind === "bad-request") return error.message;
    throw error;
  }
}

function makeReference(kernel: Kernel, image: Uint8Array): TextReference | string {
  const file = readKernelFile(image);
  if (file.buildId !== kernel.buildId)
    return `the kernel image that was given is of another build (${file.buildId || "unknown"}) than the guest's kernel (${kernel.buildId})`;
  const bounds = {
    ftrace: boundsOf(kernel, patchTables.ftrace),
    jumpLabels: boundsOf(kernel, patchTables.jumpLabels),
    staticCalls: boundsOf(kernel, patchTables.staticCalls),
  };
  const reference = textReference(file, kernel.kaslrOffset, bounds, kernel.layout(altInstr));
  return (
    reference ?? "the kernel image that was given does not say what moves with the kernel: give the vmlinuz itself"
  );
}

/** As linked. */
function boundsOf(
  kernel: Kernel,
  [start, end]: readonly [SymbolSpec, SymbolSpec],
): readonly [number, number] | undefined {
  const [from, to] = [kernel.optionalPlace(start), kernel.optionalPlace(end)];
  if (from === undefined || to === undefined) return undefined;
  return [(from.lo - kernel.kaslrOffset) >>> 0, (to.lo - kernel.kaslrOffset) >>> 0];
}
