/**
 * A 64-bit value: a number where that holds it exactly, else a bigint. Nearly all are numbers, and only a guest that means
 * to sets others, such as a file of 2^62 bytes; arithmetic is for whoever knows which of the two he has.
 */
export type Integer = number | bigint;

const U32 = 0x1_0000_0000;

/** Signed. */
export function signedOf(hi: number, lo: number): Integer {
  const value = hi * U32 + (lo >>> 0);
  return Number.isSafeInteger(value) ? value : (BigInt(hi) << 32n) | BigInt(lo >>> 0);
}

export function unsignedOf(hi: number, lo: number): Integer {
  return signedOf(hi >>> 0, lo);
}

/** `count` times `unit`, of two numbers that are exact. */
export function product(count: number, unit: number): Integer {
  const value = count * unit;
  return Number.isSafeInteger(value) ? value : BigInt(count) * BigInt(unit);
}

export function difference(from: Integer, other: Integer): Integer {
  if (typeof from === "number" && typeof other === "number") return from - other;
  const value = BigInt(from) - BigInt(other);
  return Number.isSafeInteger(Number(value)) ? Number(value) : value;
}
