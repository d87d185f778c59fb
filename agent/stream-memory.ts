/**
 * Guest physical memory as a stream of encoded cloudvmi.v1.StreamMemoryResponse. Nothing is parsed: bytes are read, zero
 * runs are told instead of sent, and what is no RAM is told too.
 */
import { Code, ConnectError } from "@connectrpc/connect";
import type { RamRange } from "../vmi/index.ts";
import { Encoded } from "../wire/index.ts";
import type { OpenedMemory } from "./inspection.ts";
import { readRam } from "./read-ram.ts";

/** Bytes read at once: few enough to stay in a processor's cache on their way. */
const chunkBytes = 256 * 1024;
/** Zero runs shorter than this cost more to tell than to send. */
const minZeros = 16 * 1024;
const pageBytes = 4096;
/** Room for the head of a message before its data, tag and address, tag and length; and for the frame's header before that. */
const headBytes = 32;

const ADDRESS = (1 << 3) | 1;
const DATA = (2 << 3) | 2;
const ZEROS = 3 << 3;
const ABSENT = 4 << 3;

const zeroPage = Buffer.alloc(pageBytes);

/**
 * @param length 0: to the end of RAM.
 * @throws ConnectError InvalidArgument for a start behind the end of RAM, FailedPrecondition when the VM ends meanwhile.
 */
export async function* streamMemory(memory: OpenedMemory, start: bigint, length: bigint): AsyncGenerator<Encoded> {
  const { ranges, backings } = memory.layout;
  const last = ranges.at(-1);
  const endOfRam = last ? last.gpa + last.length : 0;
  if (start >= BigInt(endOfRam)) {
    throw new ConnectError(
      `0x${start.toString(16)} is past the end of RAM, 0x${endOfRam.toString(16)}`,
      Code.InvalidArgument,
    );
  }
  const end = length === 0n ? BigInt(endOfRam) : start + length;
  const buffers = createBuffers();
  const pieces = plan(ranges, Number(start), Number(end > BigInt(endOfRam) ? BigInt(endOfRam) : end));
  let next = pieces.next();
  let ahead = next.done ? undefined : readPiece(next.value, backings, buffers);
  while (!next.done) {
    const piece = next.value;
    const buffer = await ahead;
    next = pieces.next();
    ahead = next.done ? undefined : readPiece(next.value, backings, buffers);
    // Left early: the read ahead ends on its own.
    ahead?.catch(() => {});
    if (!buffer) yield new Encoded(encodeRun(ABSENT, piece.gpa, BigInt(piece.length)));
    else yield* encodeChunk(buffer, piece.gpa, piece.length, buffers);
  }
  if (end > BigInt(endOfRam)) yield new Encoded(encodeRun(ABSENT, endOfRam, end - BigInt(endOfRam)));
}

interface Piece {
  readonly gpa: number;
  readonly length: number;
  /** Undefined: a hole. */
  readonly from: { readonly backing: number; readonly offset: number } | undefined;
}

/** Cuts [start, end) into chunks of RAM and holes, in order. */
function* plan(ranges: readonly RamRange[], start: number, end: number): Generator<Piece, void> {
  let at = start;
  for (const { gpa, length, backing, offset } of ranges) {
    if (gpa >= end) break;
    if (gpa + length <= at) continue;
    if (at < gpa) {
      yield { gpa: at, length: gpa - at, from: undefined };
      at = gpa;
    }
    for (const stop = Math.min(gpa + length, end); at < stop; ) {
      // Chunks end at multiples of their size, so that pages are never cut.
      const size = Math.min(chunkBytes - (at % chunkBytes), stop - at);
      yield { gpa: at, length: size, from: { backing, offset: offset + at - gpa } };
      at += size;
    }
  }
  if (at < end) yield { gpa: at, length: end - at, from: undefined };
}

/** Buffers for chunks that go round: new ones for every chunk would keep the garbage collector busier than the reading. */
interface Buffers {
  take(): Buffer;
  give(buffer: Buffer): void;
}

function createBuffers(): Buffers {
  const free: Buffer[] = [];
  return {
    take: () => free.pop() ?? Buffer.allocUnsafeSlow(headBytes + chunkBytes),
    give: (buffer) => void free.push(buffer),
  };
}

/**
 * The bytes of a piece, behind room for a head; undefined where there are none: in a hole, and in RAM that its file or
 * process has given up. @throws ConnectError when the process has ended: the rest of a copy would look like holes.
 */
async function readPiece(
  { from, length }: Piece,
  backings: OpenedMemory["layout"]["backings"],
  buffers: Buffers,
): Promise<Buffer | undefined> {
  if (!from) return undefined;
  const buffer = buffers.take();
  if ((await readRam(backings[from.backing]!, buffer, headBytes, length, from.offset)) === length) return buffer;
  buffers.give(buffer);
  return undefined;
}

/** Overwrites what lies before each stretch of data: the room at the beginning, or zeros that have been told. */
function* encodeChunk(buffer: Buffer, gpa: number, length: number, buffers: Buffers): Generator<Encoded> {
  /** This loop, and the messages that have not left. */
  let holders = 1;
  const release = () => {
    if (--holders === 0) buffers.give(buffer);
  };
  const data = (from: number, to: number) => {
    holders++;
    return new Encoded(...encodeData(buffer, gpa, from, to), release);
  };
  let from = 0;
  for (let at = 0; at < length; ) {
    const zeros = zeroRun(buffer, at, length);
    if (zeros === 0) {
      at += Math.min(pageBytes, length - at);
      continue;
    }
    if (zeros >= minZeros || zeros === length) {
      if (at > from) yield data(from, at);
      yield new Encoded(encodeRun(ZEROS, gpa + at, BigInt(zeros)));
      from = at + zeros;
    }
    at += zeros;
  }
  if (from < length) yield data(from, length);
  release();
}

/** Bytes of zero pages at `at`. */
function zeroRun(buffer: Buffer, at: number, length: number): number {
  let end = at;
  while (end < length) {
    const size = Math.min(pageBytes, length - end);
    const position = headBytes + end;
    if (buffer[position] !== 0 || zeroPage.compare(buffer, position, position + size, 0, size) !== 0) break;
    end += size;
  }
  return end - at;
}

/** The message, and the bytes before it that are free. */
function encodeData(buffer: Buffer, gpa: number, from: number, to: number): [message: Uint8Array, room: number] {
  let size = to - from;
  const lengthBytes = size < 1 << 7 ? 1 : size < 1 << 14 ? 2 : size < 1 << 21 ? 3 : 4;
  const start = headBytes + from - (9 + 1 + lengthBytes);
  buffer[start] = ADDRESS;
  buffer.writeBigUInt64LE(BigInt(gpa + from), start + 1);
  buffer[start + 9] = DATA;
  let at = start + 10;
  for (; size > 0x7f; size >>>= 7) buffer[at++] = (size & 0x7f) | 0x80;
  buffer[at] = size;
  return [buffer.subarray(start, headBytes + to), start - from];
}

function encodeRun(tag: number, gpa: number, length: bigint): Uint8Array {
  const bytes = [ADDRESS, 0, 0, 0, 0, 0, 0, 0, 0, tag];
  let rest = length;
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  const buffer = Buffer.from(bytes);
  buffer.writeBigUInt64LE(BigInt(gpa), 1);
  return buffer;
}
