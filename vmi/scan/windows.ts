import type { Budget } from "../budget.ts";
import { PAGE_SHIFT, PAGE_SIZE } from "../bytes/address.ts";
import type { Span } from "../memory/mapped-spans.ts";
import type { PhysicalMemory } from "../memory/physical-memory.ts";

/** Bytes of one window at most. A rule's condition sees one window. */
export const WINDOW = 4 << 20;
/** Bytes that a window repeats of the one before: what is longer than this may be missed at a window's border. */
export const OVERLAP = 64 << 10;

export interface Window {
  readonly address: bigint;
  readonly bytes: Uint8Array;
  /** See Region.fresh. */
  readonly fresh: Uint8Array;
}

/**
 * Puts pages that follow one another in virtual memory, or in a file, side by side. A page that several places share is
 * handed out once, but for what is needed to find what goes over its borders.
 */
export class Windows {
  readonly #memory: PhysicalMemory;
  readonly #budget: Budget;
  /** A bit for each frame that has been handed out. */
  readonly #seen: Uint8Array;
  readonly #buffer = new Uint8Array(WINDOW);
  readonly #inPlace: boolean;

  /** @param inPlace where memory is mapped, windows that are one in physical memory are not copied: they go on changing */
  constructor(memory: PhysicalMemory, budget: Budget, inPlace = false) {
    const last = memory.layout.ranges.at(-1);
    const frames = last === undefined ? 0 : (last.gpa + last.length) / PAGE_SIZE;
    this.#memory = memory;
    this.#budget = budget;
    this.#seen = new Uint8Array(Math.ceil(frames / 8));
    this.#inPlace = inPlace && memory.direct;
  }

  /**
   * @param spans ascending. A hole between two ends a window, and so does what is not RAM
   * @param holds asked once a window has been copied: what it is false for is left out, and its pages are still to be told
   */
  *of(spans: Iterable<Span>, holds: (window: Window) => boolean = () => true): Generator<Window> {
    let run = new Run();
    for (const span of this.#ram(spans)) {
      if (run.length > 0 && span.address !== run.end) {
        yield* this.#window(run, holds);
        run = new Run();
      }
      for (let done = 0; done < span.length; ) {
        const taken = Math.min(span.length - done, WINDOW - run.length);
        run.add({ address: span.address + BigInt(done), gpa: span.gpa + done, length: taken });
        done += taken;
        if (run.length < WINDOW) continue;
        yield* this.#window(run, holds);
        run = run.tail(OVERLAP);
      }
    }
    yield* this.#window(run, holds);
  }

  /** The parts of spans that are RAM. */
  *#ram(spans: Iterable<Span>): Generator<Span> {
    for (const span of spans) {
      if (this.#memory.contains(span.gpa, span.length)) yield span;
      else if (span.length > PAGE_SIZE) {
        const half = Math.ceil(span.length / PAGE_SIZE / 2) * PAGE_SIZE;
        this.#budget.spend();
        yield* this.#ram([
          { ...span, length: half },
          { address: span.address + BigInt(half), gpa: span.gpa + half, length: span.length - half },
        ]);
      }
    }
  }

  *#window({ spans, length }: Run, holds: (window: Window) => boolean): Generator<Window> {
    const pages = length / PAGE_SIZE;
    this.#budget.spend(pages);
    const fresh = new Uint8Array(pages);
    let page = 0;
    let first = pages;
    let last = -1;
    for (const { gpa, length: bytes } of spans) {
      for (let done = 0; done < bytes; done += PAGE_SIZE, page++) {
        if (this.#has(gpa + done)) continue;
        fresh[page] = 1;
        first = Math.min(first, page);
        last = page;
      }
    }
    if (last < 0) return;
    // Of what is known already only as much as what is new may go over into.
    const margin = OVERLAP / PAGE_SIZE;
    const from = Math.max(0, first - margin);
    const to = Math.min(pages, last + 1 + margin);
    const cut = fresh.subarray(from, to);
    const bytes = this.#bytes(spans, from * PAGE_SIZE, to * PAGE_SIZE, cut);
    const window: Window = { address: spans[0]!.address + BigInt(from * PAGE_SIZE), bytes, fresh: cut };
    if (!holds(window)) return;
    yield window;
    // Not before: whoever finds that the window is not what it should be leaves here, and the pages are still to be told.
    for (const { gpa, length: size } of spans) this.#mark(gpa, size);
  }

  #has(gpa: number): boolean {
    const frame = Math.floor(gpa / PAGE_SIZE);
    return (this.#seen[Math.floor(frame / 8)]! & (1 << (frame % 8))) !== 0;
  }

  #mark(gpa: number, length: number): void {
    const end = Math.floor((gpa + length) / PAGE_SIZE);
    for (let frame = Math.floor(gpa / PAGE_SIZE); frame < end; frame++)
      this.#seen[Math.floor(frame / 8)]! |= 1 << (frame % 8);
  }

  /** Bytes [from, to) of the spans; a page that can't be read is zeros, and not fresh. */
  #bytes(spans: readonly Span[], from: number, to: number, fresh: Uint8Array): Uint8Array {
    const memory = this.#memory;
    const only = spans[0]!;
    if (this.#inPlace && spans.length === 1) return memory.bytes.subarray(only.gpa + from, only.gpa + to);
    let at = 0;
    for (const { gpa, length } of spans) {
      const start = Math.max(from, at);
      const end = Math.min(to, at + length);
      if (start < end) {
        const target = this.#buffer.subarray(start - from, end - from);
        if (!memory.copyTo(gpa + start - at, target)) {
          target.fill(0);
          fresh.fill(0, (start - from) >>> PAGE_SHIFT, (end - from) >>> PAGE_SHIFT);
        }
      }
      at += length;
    }
    return this.#buffer.subarray(0, to - from);
  }
}

/** Spans that follow one another; neighbours in physical memory are one. */
class Run {
  readonly spans: Span[] = [];
  length = 0;

  get end(): bigint {
    return this.spans[0]!.address + BigInt(this.length);
  }

  add(span: Span): void {
    const last = this.spans.at(-1);
    if (last !== undefined && last.gpa + last.length === span.gpa)
      this.spans[this.spans.length - 1] = { ...last, length: last.length + span.length };
    else this.spans.push(span);
    this.length += span.length;
  }

  /** The last so many bytes. */
  tail(bytes: number): Run {
    const run = new Run();
    let skip = this.length - bytes;
    for (const { address, gpa, length } of this.spans) {
      const left = Math.min(skip, length);
      skip -= left;
      if (left < length) run.add({ address: address + BigInt(left), gpa: gpa + left, length: length - left });
    }
    return run;
  }
}
