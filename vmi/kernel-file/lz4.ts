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
  const state: State = { block, target, limit, at: 0, to: start };
  while (state.at < block.length) unpackSequence(state);
  return state.to;
}

interface State {
  readonly block: Uint8Array;
  readonly target: Uint8Array;
  readonly limit: number;
  /** Where to read on, and to write on. */
  at: number;
  to: number;
}

/** Literals, and a match with what was written before: a function of its own, so that V8 compiles it as a whole. */
function unpackSequence(state: State): void {
  const { block, target, limit } = state;
  const token = block[state.at++]!;
  const literals = lengthOf(state, token >>> 4);
  const { at, to } = state;
  if (at + literals > block.length || to + literals > limit) throw damaged();
  copy(block, at, target, to, literals);
  state.at = at + literals;
  state.to = to + literals;
  // The last sequence has literals only.
  if (state.at < block.length) unpackMatch(state, token & 15);
}

function unpackMatch(state: State, shortLength: number): void {
  const { block, target, limit, to } = state;
  const distance = block[state.at]! | ((block[state.at + 1] ?? 0) << 8);
  state.at += 2;
  const length = lengthOf(state, shortLength) + MIN_MATCH;
  if (!(distance > 0 && distance <= to && to + length <= limit)) throw damaged();
  if (distance >= length) copy(target, to - distance, target, to, length);
  else repeat(target, to, distance, length);
  state.to = to + length;
}

/** 15 is gone on with by bytes, of which the last is not 255. */
function lengthOf(state: State, first: number): number {
  let length = first;
  for (let more = first === 15 ? 255 : 0; more === 255; length += more) {
    if (state.at >= state.block.length) throw damaged();
    more = state.block[state.at++]!;
  }
  return length;
}

/** Fewer bytes than this are copied sooner one by one. */
const SHORT = 64;

function copy(from: Uint8Array, at: number, target: Uint8Array, to: number, length: number): void {
  if (length >= SHORT) target.set(from.subarray(at, at + length), to);
  else for (let i = 0; i < length; i++) target[to + i] = from[at + i]!;
}

/** Source and target overlap: what was just written is repeated. */
function repeat(target: Uint8Array, to: number, distance: number, length: number): void {
  for (let i = to; i < to + length; i++) target[i] = target[i - distance]!;
}

function damaged(): GuestError {
  return new GuestError("bad-request", "the kernel image that was supplied is damaged: its LZ4 data can't be unpacked");
}
