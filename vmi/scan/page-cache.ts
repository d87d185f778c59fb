import type { Budget } from "../budget.ts";
import { PAGE_SIZE } from "../bytes/address.ts";
import { type CachedFile, pathOfInode, walkCachedFiles } from "../linux/cached-files.ts";
import { consistently } from "../linux/consistent.ts";
import { factsOfInode, formatDevice } from "../linux/file.ts";
import type { Kernel } from "../linux/kernel.ts";
import { isCachedPage, walkCachedPages } from "../linux/page-cache.ts";
import type { Unit } from "../linux/unit.ts";
import type { Span } from "../memory/mapped-spans.ts";
import type { Place, Region } from "./region.ts";
import type { Window, Windows } from "./windows.ts";

/** More files than this are not looked through. */
const MAX_FILES = 1 << 20;
/** Runs of pages of one file; each has at least one page. */
const MAX_SPANS = 1 << 20;

/**
 * What is in memory of files, by offset, file after file: of deleted ones and of memfds too.
 *
 * @param note told what could not be read
 */
export function* pageCacheRegions(
  kernel: Kernel,
  windows: Windows,
  budget: Budget,
  note: (text: string) => void,
): Generator<Region> {
  const files: CachedFile[] = [];
  const unit: Unit = (_, read) => {
    const { length } = files;
    const found = consistently(kernel, budget, () => {
      files.length = length;
      return read(false);
    });
    if (found === undefined) files.length = length;
    return found?.value ?? true;
  };
  const complete = walkCachedFiles(kernel, undefined, budget, unit, (file) => files.push(file) < MAX_FILES);
  if (!complete) note("the inodes of a file system could not all be followed");
  if (files.length === MAX_FILES) note(`only the first ${MAX_FILES} files of the page cache`);
  for (const file of files) {
    kernel.dropCaches();
    yield* regionsOf(kernel, file, windows, budget, note);
  }
}

function* regionsOf(
  kernel: Kernel,
  file: CachedFile,
  windows: Windows,
  budget: Budget,
  note: (text: string) => void,
): Generator<Region> {
  const found = consistently(kernel, budget, () => {
    const facts = factsOfInode(kernel, file.at);
    const path = pathOfInode(kernel, file, budget);
    const spans: Span[] = [];
    const complete = walkCachedPages(kernel, file.at, budget, (index, gpa, count) => {
      budget.spend();
      return spans.push({ address: BigInt(index) * BigInt(PAGE_SIZE), gpa, length: count * PAGE_SIZE }) < MAX_SPANS;
    });
    return { facts, path, spans, complete };
  });
  if (found === undefined) {
    note("files kept changing while they were read");
    return;
  }
  const { facts, path, spans, complete } = found.value;
  if (!complete || spans.length === MAX_SPANS) note("the pages of a file could not all be followed");
  const deleted = path?.deleted === true || facts.links === 0;
  const device = facts.device === undefined ? undefined : formatDevice(facts.device);
  const place: Place = { kind: "file", path: path?.bytes, inode: facts.number, device, deleted };
  let first = 0;
  // Memory that the file has given back meanwhile may be anybody's.
  const holds = ({ address, bytes }: Window): boolean => {
    kernel.dropCaches();
    const end = address + BigInt(bytes.length);
    while (first < spans.length && endOf(spans[first]!) <= address) first++;
    for (let i = first; i < spans.length && spans[i]!.address < end; i++) {
      budget.spend();
      if (endOf(spans[i]!) > address && !isCachedPage(kernel, file.at, spans[i]!.gpa)) return false;
    }
    return factsOfInode(kernel, file.at).number === facts.number;
  };
  const look = (window: Window): boolean => {
    const same = holds(window);
    if (!same) note("files gave back memory while it was read: what is beside that, up to 4 MiB, was not looked at");
    return same;
  };
  for (const { address, bytes, fresh } of windows.of(spans, look)) {
    // What follows a file's end in its last page is none of it.
    const size = facts.size === undefined ? bytes.length : Math.max(0, Number(BigInt(facts.size) - address));
    if (size > 0) yield { address, bytes: bytes.subarray(0, size), fresh, place: () => place };
  }
}

const endOf = ({ address, length }: Span): bigint => address + BigInt(length);
