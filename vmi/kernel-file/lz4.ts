import { GuestError } from "../errors.ts";

/**
 * LZ4 in the legacy frame format, as the kernel's build uses it (`lz4 -l`: 8 MiB blocks, each with its size before it).
 * The formats are lz4_Block_format.md and lz4_Frame_format.md of github.com/lz4/lz4.
 */

const MAGIC = 0x184c2102;
const BLOCK = 8 << 20;
const MIN_MATCH = 4;

/** @param size bytes of what is unpacked. Throws GuestError "bad-request" when it is damaged. */
export function unpackLz4(packed: Uint8Array, size: number): Uint8Array {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
  const target = new Uint8Array(size);
  if (packed.length < 4 || view.getUint32(0, true) !== MAGIC) throw damaged();
  let written = 0;
  for (let at = 4; at + 4 <= packed.length && written < size; ) {
    const length = view.getUint32(at, true);
    at += 4;
    if (length === MAGIC) continue;
    if (length === 0 || at + length > packed.length) break;
    written = unpackBlock(packed.subarray(at, at + length), target, written, Math.min(size, written + BLOCK));
    at += length;
  }
  if (written !== size) throw damaged();
  return target;
}

/** Returns where the block ends in the target. */
function unpackBlock(block: Uint8Array, target: Uint8Array, start: number, limit: number): number {
  let to = start;
  let at = 0;
  const lengthOf = (first: number): number => {
    let length = first;
    if (first === 15) {
      let more = 255;
      while (more === 255) {
        if (at >= block.length) throw damaged();
        more = block[at++]!;
        length += more;
      }
    }
    return length;
  };
  while (at < block.length) {
    const token = block[at++]!;
    const literals = lengthOf(token >>> 4);
    if (at + literals > block.length || to + literals > limit) throw damaged();
    copy(block, at, target, to, literals);
    at += literals;
    to += literals;
    // The last sequence has literals only.
    if (at >= block.length) break;
    const distance = block[at]! | (block[at + 1]! << 8);
    at += 2;
    const length = lengthOf(token & 15) + MIN_MATCH;
    if (!(distance > 0 && distance <= to - start && to + length <= limit)) throw damaged();
    if (distance >= SHORT && length >= SHORT && distance >= length)
      target.copyWithin(to, to - distance, to - distance + length);
    // Source and target may overlap: then what was just written is repeated.
    else for (let i = 0; i < length; i++) target[to + i] = target[to - distance + i]!;
    to += length;
  }
  return to;
}

/** Fewer bytes than this are copied sooner one by one. */
const SHORT = 64;

function copy(from: Uint8Array, at: number, target: Uint8Array, to: number, length: number): void {
  if (length >= SHORT) target.set(from.subarray(at, at + length), to);
  else for (let i = 0; i < length; i++) target[to + i] = from[at + i]!;
}

function damaged(): GuestError {
  return new GuestError("bad-request", "the kernel image that was supplied is damaged: its LZ4 data can't be unpacked");
}
