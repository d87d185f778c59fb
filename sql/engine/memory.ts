// What is read for a statement lies in SQLite's memory beside what SQLite makes of it, so that one limit bounds both.
import { Code, ConnectError } from "@connectrpc/connect";

/** The allocator of a SQLite. */
interface Allocator {
  readonly exports: { sqlite3_malloc(bytes: number): number };
}

/** Takes memory, aligned for any number, that holds whatever it held before. Throws ResourceExhausted at the limit. */
export function allocate({ exports }: Allocator, bytes: number): number {
  // It takes 31 bits.
  const made = bytes < 1 << 30 ? exports.sqlite3_malloc(bytes) : 0;
  if (made === 0) throw outOfMemory();
  return made;
}

export function outOfMemory(): ConnectError {
  return new ConnectError(
    "the statement needs more memory than it may have: select fewer columns, or narrow it with WHERE",
    Code.ResourceExhausted,
  );
}

export function tooLong(): ConnectError {
  return new ConnectError(
    "a text, a row or the statement itself is too long: at most 16 MiB, so select fewer columns, or a part with substr()",
    Code.ResourceExhausted,
  );
}
