import { START_KERNEL_MAP } from "./arch/x86-64.ts";
import { hiOf, loOf, PAGE_SIZE } from "./bytes/address.ts";
import type { Candidate } from "./candidate.ts";
import { GuestError } from "./errors.ts";
import { imageGpa } from "./linux/kernel.ts";
import type { ImagePiece } from "./symbols/kallsyms-search.ts";

/** Kernel tables larger than this are not believed. */
const MAX_TABLE = 64 << 20;
/** Bytes of an image that are looked at: Debian's has 60 MiB, one with everything built in 200. */
const MAX_IMAGE = 256 << 20;
/** Between text and data the kernel frees what fills up a large page, and may unmap it (free_kernel_image_pages()). */
const MAX_GAP = 4 << 20;
/** KERNEL_IMAGE_SIZE with KASLR: modules are mapped behind it. */
const IMAGE_END = START_KERNEL_MAP + (1n << 30n);

/**
 * Bytes of the kernel image, which is contiguous in physical memory: in place where memory is mapped, else a copy.
 * Throws GuestError "unsupported-kernel" when they are not there.
 */
export function imageBytes(candidate: Candidate, address: bigint, length: number): Uint8Array {
  const { memory } = candidate.space;
  const gpa = imageGpa(address, candidate.physBase);
  if (!(length > 0 && length <= MAX_TABLE && memory.contains(gpa, length))) {
    throw new GuestError(
      "unsupported-kernel",
      `a table of kernel ${candidate.release} at 0x${address.toString(16)} is not in its image`,
    );
  }
  if (memory.direct) return memory.bytes.subarray(gpa, gpa + length);
  const copy = memory.copy(gpa, length);
  if (copy === undefined)
    throw new GuestError("inconsistent", `the image of kernel ${candidate.release} can't be read`);
  return copy;
}

/**
 * The image as the page tables map it, in pieces that are one in physical memory too.
 *
 * @param constant only what nobody may write or execute
 */
export function* imagePieces(candidate: Candidate, constant: boolean): Generator<ImagePiece> {
  const { space, physBase, stext } = candidate;
  let address = stext & ~BigInt(PAGE_SIZE - 1);
  const end = address + BigInt(MAX_IMAGE) < IMAGE_END ? address + BigInt(MAX_IMAGE) : IMAGE_END;
  let run = { address, length: 0 };
  for (let gap = 0; address < end && gap < MAX_GAP; ) {
    const found = space.translate(hiOf(address), loOf(address));
    const size = found === undefined ? PAGE_SIZE : found.pageSize - (loOf(address) & (found.pageSize - 1));
    const next = address + BigInt(size);
    const mapped = found?.gpa === imageGpa(address, physBase);
    gap = mapped ? 0 : gap + size;
    if (mapped && !(constant && (found.writable || found.executable))) run.length += size;
    else {
      if (run.length > 0) yield pieceOf(candidate, run);
      run = { address: next, length: 0 };
    }
    address = next;
  }
  if (run.length > 0) yield pieceOf(candidate, run);
}

function pieceOf(
  { space: { memory }, physBase }: Candidate,
  { address, length }: { address: bigint; length: number },
): ImagePiece {
  const gpa = imageGpa(address, physBase);
  return {
    address,
    length,
    read(from, count) {
      const at = gpa + from;
      if (!memory.contains(at, count)) return undefined;
      return memory.direct ? memory.bytes.subarray(at, at + count) : memory.copy(at, count);
    },
  };
}
