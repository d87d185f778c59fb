import { addHi, addLo, type Halves, PAGE_SIZE } from "../bytes/address.ts";
import { type Integer, signedOf, unsignedOf } from "../bytes/integer.ts";
import type { AddressSpace } from "../memory/address-space.ts";

/** Small reads that every subsystem needs, at an address plus an offset. Undefined where nothing can be read. */

/** A pointer, or another 64-bit value that stays while what it belongs to is the same: within a unit (see Trail) it must. */
export function readPointer(space: AddressSpace, at: Halves, offset = 0): Halves | undefined {
  const hi = addHi(at.hi, at.lo, offset);
  const lo = addLo(at.lo, offset);
  const index = space.borrow(hi, lo, 8);
  if (index < 0) return undefined;
  const { view } = space.memory;
  const value = { hi: view.getInt32(index + 4, true), lo: view.getInt32(index, true) };
  if (space.trail?.recording) space.trail.pointer(hi, lo, value.hi, value.lo, index);
  return value;
}

/** As readU32, for what tells that a structure is still the same: an id, a sequence count. */
export function pinU32(space: AddressSpace, at: Halves, offset = 0): number | undefined {
  const hi = addHi(at.hi, at.lo, offset);
  const lo = addLo(at.lo, offset);
  const index = space.borrow(hi, lo, 4);
  if (index < 0) return undefined;
  const value = space.memory.view.getUint32(index, true);
  if (space.trail?.recording) space.trail.u32(hi, lo, value | 0, index);
  return value;
}

export function readU32(space: AddressSpace, at: Halves, offset = 0): number | undefined {
  const index = space.borrow(addHi(at.hi, at.lo, offset), addLo(at.lo, offset), 4);
  return index < 0 ? undefined : space.memory.view.getUint32(index, true);
}

/** A signed 64-bit value, exact up to 2^53, that may change at any time: a size, a counter. */
export function readNumber(space: AddressSpace, at: Halves, offset = 0): number | undefined {
  const index = space.borrow(addHi(at.hi, at.lo, offset), addLo(at.lo, offset), 8);
  if (index < 0) return undefined;
  const { view } = space.memory;
  return view.getInt32(index + 4, true) * 0x1_0000_0000 + view.getUint32(index, true);
}

/** As readNumber, exact whatever it is: for what a program may set as it likes. */
export function readInteger(space: AddressSpace, at: Halves, offset = 0): Integer | undefined {
  const index = space.borrow(addHi(at.hi, at.lo, offset), addLo(at.lo, offset), 8);
  if (index < 0) return undefined;
  const { view } = space.memory;
  return signedOf(view.getInt32(index + 4, true), view.getInt32(index, true));
}

/** As readNumber, for what tells that a structure is still the same, such as the number of an inode. */
export function pinNumber(space: AddressSpace, at: Halves, offset = 0): number | undefined {
  const value = readPointer(space, at, offset);
  return value && value.hi * 0x1_0000_0000 + (value.lo >>> 0);
}

/** As pinNumber, exact and unsigned. */
export function pinInteger(space: AddressSpace, at: Halves, offset = 0): Integer | undefined {
  const value = readPointer(space, at, offset);
  return value && unsignedOf(value.hi, value.lo);
}

export function isNull(address: Halves): boolean {
  return address.hi === 0 && address.lo === 0;
}

export function plus(address: Halves, offset: number): Halves {
  return { hi: addHi(address.hi, address.lo, offset), lo: addLo(address.lo, offset) };
}

/** Two 64-bit values added, as the processor does. */
export function sum(a: Halves, b: Halves): Halves {
  const lo = (a.lo >>> 0) + (b.lo >>> 0);
  return { hi: (a.hi + b.hi + (lo > 0xffff_ffff ? 1 : 0)) | 0, lo: lo | 0 };
}

export function sameAddress(a: Halves, b: Halves): boolean {
  return a.hi === b.hi && a.lo === b.lo;
}

const CHUNK = 256;
const SHORT = 32;

/** Bytes up to a zero or `maximum`; undefined when no byte can be read. */
export function readCString(space: AddressSpace, at: Halves, maximum: number): Uint8Array | undefined {
  const index = space.resolve(at.hi, at.lo);
  if (index < 0) return undefined;
  // Most are short, and end on the page where they begin.
  const { bytes } = space.memory;
  const near = Math.min(maximum, SHORT, PAGE_SIZE - (at.lo & (PAGE_SIZE - 1)));
  const short = Buffer.allocUnsafe(near);
  for (let i = 0; i < near; i++) {
    const byte = bytes[index + i]!;
    if (byte === 0) return short.subarray(0, i);
    short[i] = byte;
  }
  return near === maximum ? short : readLongCString(space, at, maximum);
}

function readLongCString(space: AddressSpace, at: Halves, maximum: number): Uint8Array | undefined {
  const target = new Uint8Array(maximum);
  let done = 0;
  while (done < maximum) {
    const wanted = target.subarray(done, Math.min(done + CHUNK, maximum));
    const count = space.read(addHi(at.hi, at.lo, done), addLo(at.lo, done), wanted);
    const zero = wanted.subarray(0, count).indexOf(0);
    if (zero >= 0) return target.subarray(0, done + zero);
    done += count;
    if (count < wanted.length) break;
  }
  return done === 0 ? undefined : target.subarray(0, done);
}

/** Bytes as a string of as many characters: for names, which are ASCII in any kernel that is not hostile. */
export function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}
