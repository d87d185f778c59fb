import type { Span } from "../memory/mapped-spans.ts";
import { type PhysicalMemory, populatedSpans } from "../memory/physical-memory.ts";
import type { Region } from "./region.ts";
import type { Windows } from "./windows.ts";

const PHYSICAL = { kind: "physical" } as const;

/** All of RAM that was ever touched, by guest physical address. */
export function* physicalRegions(memory: PhysicalMemory, windows: Windows): Generator<Region> {
  for (const window of windows.of(spansOf(memory))) yield { ...window, place: () => PHYSICAL };
}

function* spansOf(memory: PhysicalMemory): Generator<Span> {
  for (const { gpa, length } of populatedSpans(memory.layout)) yield { address: BigInt(gpa), gpa, length };
}
