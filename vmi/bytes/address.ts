/**
 * Addresses. A guest physical address has at most 52 bits and is a branded `number`. A guest virtual address can
 * have 57 significant bits: a branded `bigint` at the edge of the engine. Inside loops a virtual address is two signed
 * 32-bit halves (hi, lo), because arithmetic on bigint is several times slower.
 */

declare const brand: unique symbol;

/** Guest physical address, in bytes. */
export type Gpa = number & { readonly [brand]: "gpa" };
/** Guest virtual address, 64 bits, unsigned. */
export type Gva = bigint & { readonly [brand]: "gva" };

export const PAGE_SHIFT = 12;
export const PAGE_SIZE = 4096;

/** The two signed halves of an address, as the loops keep it. */
export interface Halves {
  hi: number;
  lo: number;
}

const U32 = 0x1_0000_0000;

export function gvaOf(hi: number, lo: number): Gva {
  return ((BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0)) as Gva;
}

export function hiOf(address: bigint): number {
  return Number((address >> 32n) & 0xffff_ffffn) | 0;
}

export function loOf(address: bigint): number {
  return Number(address & 0xffff_ffffn) | 0;
}

/** hi part of (hi:lo) + delta, for a delta between -2^31 and 2^31. */
export function addHi(hi: number, lo: number, delta: number): number {
  const sum = (lo >>> 0) + delta;
  return sum >= U32 ? (hi + 1) | 0 : sum < 0 ? (hi - 1) | 0 : hi;
}

/** lo part of (hi:lo) + delta. */
export function addLo(lo: number, delta: number): number {
  return (lo + delta) | 0;
}

/** `0x` and sixteen digits: the way the kernel's own messages write a pointer. */
export function formatHalves(hi: number, lo: number): string {
  return `0x${(hi >>> 0).toString(16).padStart(8, "0")}${(lo >>> 0).toString(16).padStart(8, "0")}`;
}

/** `0x` and as many digits as it takes. */
export function formatAddress(address: number | bigint): string {
  return `0x${address.toString(16)}`;
}

/** A non-negative 64-bit value as a number, exact up to 2^53. */
export function numberOf(hi: number, lo: number): number {
  return (hi >>> 0) * U32 + (lo >>> 0);
}

/** A signed 64-bit value as a number, exact up to 2^53. */
export function signedNumberOf(hi: number, lo: number): number {
  return hi * U32 + (lo >>> 0);
}
