import { kprobe, walkKprobes } from "../linux/kprobe.ts";
import { readPointer } from "../linux/read.ts";
import type { CheckContext } from "./check.ts";

/** Lower halves of where registered kprobes are: a breakpoint or a jump is written there. */
export function probedPlaces({ kernel, budget }: CheckContext): ReadonlySet<number> {
  const places = new Set<number>();
  walkKprobes(kernel, budget, ({ at }) => {
    const place = readPointer(kernel.space, at, kernel.layout(kprobe).addr);
    if (place !== undefined) places.add(place.lo);
    return true;
  });
  return places;
}
