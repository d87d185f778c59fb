import { PAGE_SIZE } from "../bytes/address.ts";
import type { PhysicalMemory } from "./physical-memory.ts";

const SAMPLES = 256;
const CHUNK = 1 << 20;
/** A page of random bytes has each value 16 times on average, and hardly ever misses more than a few. */
const DISTINCT_OF_NOISE = 250;

/** True when nearly every page in use reads as noise: what the processor encrypts, and ordinary memory never is. */
export function looksEncrypted(memory: PhysicalMemory): boolean {
  let pages = 0;
  let noise = 0;
  memory.scan(CHUNK, (piece) => {
    const page = piece.bytes.subarray(piece.index, piece.index + PAGE_SIZE);
    const distinct = new Set(page).size;
    if (distinct > 1) {
      pages++;
      if (distinct >= DISTINCT_OF_NOISE) noise++;
    }
    return pages >= SAMPLES;
  });
  return pages >= 8 && noise / pages > 0.9;
}
