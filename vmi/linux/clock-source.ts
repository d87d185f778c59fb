import type { Halves } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { readCString, readPointer, readU32 } from "./read.ts";

/** include/linux/clocksource.h */
const clocksource = struct("?clocksource", { name: "name" });
/** kernel/time/time.c: a struct timezone, which begins with tz_minuteswest. */
const sysTz = symbol("?sys_tz");

const MAX_NAME = 64;

export function clockSourceName(kernel: Kernel, at: Halves): Uint8Array | undefined {
  const { name } = kernel.layout(clocksource);
  const pointer = name < 0 ? undefined : readPointer(kernel.space, at, name);
  return pointer && readCString(kernel.space, pointer, MAX_NAME);
}

/** What settimeofday() has set. Undefined when the kernel does not tell. */
export function timezoneMinutesWest(kernel: Kernel): number | undefined {
  const place = kernel.optionalPlace(sysTz);
  const minutes = place && readU32(kernel.space, place);
  return minutes === undefined ? undefined : minutes | 0;
}
