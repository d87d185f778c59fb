import type { Budget } from "../budget.ts";
import { addHi, addLo, type Halves, numberOf } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { plus, readNumber, readPointer, readU32 } from "./read.ts";

/**
 * The kernel's log. From 5.10 (896fbe20b4e2) a ring of descriptors beside a ring of texts that need no lock
 * (kernel/printk/printk_ringbuffer.h); before, records of variable length one behind the other in `log_buf`.
 */
export interface LogRecord {
  readonly sequence: number;
  /** Nanoseconds of the kernel's own clock: since about when it booted. */
  readonly time: number;
  readonly facility: number;
  readonly level: number;
  /** LOG_CONT: the kernel meant to go on with the line. */
  readonly continued: boolean;
  /** With bit 31 a CPU, otherwise a task's id; undefined where the kernel keeps none. */
  readonly caller: number | undefined;
  readonly text: Uint8Array;
  readonly subsystem: Uint8Array;
  readonly device: Uint8Array;
}

export type LogHead = Pick<LogRecord, "sequence" | "facility" | "level">;

export interface LogWalk {
  readonly complete: boolean;
  /** Records that were overwritten while they were read. */
  readonly torn: number;
}

const ring = symbol("?prb");
const ringbuffer = struct("?printk_ringbuffer", {
  count_bits: "desc_ring.count_bits",
  descs: "desc_ring.descs",
  infos: "desc_ring.infos",
  head_id: "desc_ring.head_id",
  tail_id: "desc_ring.tail_id",
  size_bits: "text_data_ring.size_bits",
  data: "text_data_ring.data",
});
const descriptor = struct("?prb_desc", {
  state_var: "state_var",
  begin: "text_blk_lpos.begin",
  next: "text_blk_lpos.next",
});
/** `dev_info` from 5.10 (74caba7f2a06) */
const printkInfo = struct("?printk_info", {
  seq: "seq",
  ts_nsec: "ts_nsec",
  text_len: "text_len",
  facility: "facility",
  caller_id: "caller_id",
  subsystem: "?dev_info.subsystem",
  device: "?dev_info.device",
});

/** Rings of 2^20 records and 2^25 bytes (CONFIG_LOG_BUF_SHIFT, log_buf_len=) are the largest that kernels make by default. */
const MAX_COUNT_BITS = 20;
const MAX_SIZE_BITS = 31;
/** State in the two top bits: reserved 0, committed 1, finalized 2 (4cfc7258f876), reusable 3. */
const FINALIZED = 2;
const ID_HI = 0x3fff_ffff;
/** What a record takes, and its text, as elements of a list. */
const HEAD_COST = 4;
const RECORD_COST = 4;
const SUBSYSTEM_SIZE = 16;
const DEVICE_SIZE = 48;

/**
 * Calls `visit` for each record, the oldest first, until it returns false. Undefined when the kernel's log can't be found.
 *
 * @param wanted tells which are read whole, with their texts
 */
export function walkLog(
  kernel: Kernel,
  wanted: (head: LogHead) => boolean,
  budget: Budget,
  visit: (record: LogRecord) => boolean,
): LogWalk | undefined {
  const place = kernel.optionalPlace(ring);
  const at = place && kernel.layout(ringbuffer).infos >= 0 ? readPointer(kernel.space, place) : undefined;
  return at === undefined ? walkLogBuffer(kernel, wanted, budget, visit) : walkRing(kernel, at, wanted, budget, visit);
}

interface Ring {
  readonly descs: Halves;
  readonly infos: Halves;
  readonly data: Halves;
  readonly countBits: number;
  readonly sizeBits: number;
}

function walkRing(
  kernel: Kernel,
  at: Halves,
  wanted: (head: LogHead) => boolean,
  budget: Budget,
  visit: (record: LogRecord) => boolean,
): LogWalk | undefined {
  const { space } = kernel;
  const layout = kernel.layout(ringbuffer);
  const descs = readPointer(space, at, layout.descs);
  const infos = readPointer(space, at, layout.infos);
  const data = readPointer(space, at, layout.data);
  const countBits = readU32(space, at, layout.count_bits);
  const sizeBits = readU32(space, at, layout.size_bits);
  const head = readPointer(space, at, layout.head_id);
  const tail = readPointer(space, at, layout.tail_id);
  if (!descs || !infos || !data || !head || !tail || countBits === undefined || sizeBits === undefined)
    return undefined;
  if (countBits > MAX_COUNT_BITS || sizeBits > MAX_SIZE_BITS) return undefined;
  const found: Ring = { descs, infos, data, countBits, sizeBits };
  // Ids go round in 62 bits; within one ring they differ by less than its length.
  const total = ((head.lo - tail.lo) & (2 ** countBits - 1)) + 1;
  let torn = 0;
  let complete = true;
  for (let i = 0; i < total; i++) {
    budget.spend(HEAD_COST);
    const id = { hi: addHi(tail.hi, tail.lo, i) & ID_HI, lo: addLo(tail.lo, i) };
    const record = readRecord(kernel, found, id, wanted);
    if (record === "unreadable") complete = false;
    else if (record === "torn") torn++;
    else if (record !== "absent") {
      budget.spend(RECORD_COST);
      if (!visit(record)) break;
    }
  }
  return { complete, torn };
}

/** "absent" where a record is still being written, was given up, or is not wanted. */
function readRecord(
  kernel: Kernel,
  log: Ring,
  id: Halves,
  wanted: (head: LogHead) => boolean,
): LogRecord | "unreadable" | "torn" | "absent" {
  const { space } = kernel;
  const desc = kernel.layout(descriptor);
  const index = id.lo & (2 ** log.countBits - 1);
  const descAt = plus(log.descs, index * desc.sizeof);
  const state = stateOf(kernel, descAt);
  if (state === undefined) return "unreadable";
  if (state.hi !== id.hi || state.lo !== id.lo) return "torn";
  if (state.kind !== FINALIZED) return "absent";
  const begin = readPointer(space, descAt, desc.begin);
  const next = readPointer(space, descAt, desc.next);
  const record = readInfo(kernel, plus(log.infos, index * kernel.layout(printkInfo).sizeof));
  if (begin === undefined || next === undefined || record === undefined) return "unreadable";
  if (!wanted(record)) return "absent";
  const text = readText(kernel, log, id, begin, next, record.length);
  // A writer that takes the descriptor or its text changes the state first.
  const now = stateNow(kernel, descAt);
  if (now === undefined || now.hi !== id.hi || now.lo !== id.lo || now.kind !== FINALIZED) return "torn";
  if (typeof text === "string") return text;
  const { length: _, ...fields } = record;
  // The sequence number of a slot is its index and the ring's length times the rounds there were.
  return record.sequence % 2 ** log.countBits === index ? { ...fields, text } : "torn";
}

type Info = Omit<LogRecord, "text"> & { readonly length: number };

function readInfo(kernel: Kernel, at: Halves): Info | undefined {
  const info = kernel.layout(printkInfo);
  const base = kernel.space.borrow(at.hi, at.lo, info.sizeof);
  if (base < 0) return undefined;
  const { view, bytes } = kernel.memory;
  const number = (offset: number) =>
    numberOf(view.getInt32(base + offset + 4, true), view.getInt32(base + offset, true));
  const level = view.getUint8(base + info.facility + 1);
  const name = (offset: number, size: number) => {
    if (offset < 0) return EMPTY;
    const all = bytes.slice(base + offset, base + offset + size);
    const zero = all.indexOf(0);
    return zero < 0 ? all : all.subarray(0, zero);
  };
  return {
    sequence: number(info.seq),
    time: number(info.ts_nsec),
    length: view.getUint16(base + info.text_len, true),
    facility: view.getUint8(base + info.facility),
    // `flags:5, level:3`
    level: level >>> 5,
    continued: (level & LOG_CONT) !== 0,
    caller: view.getUint32(base + info.caller_id, true),
    subsystem: name(info.subsystem, SUBSYSTEM_SIZE),
    device: name(info.device, DEVICE_SIZE),
  };
}

const EMPTY = new Uint8Array(0);
const LOG_CONT = 8;

/** FAILED_LPOS and EMPTY_LINE_LPOS (NO_LPOS until 6.x): positions that no text has. */
const NO_TEXT = 1;
const EMPTY_LINE = 3;

function readText(
  kernel: Kernel,
  log: Ring,
  id: Halves,
  begin: Halves,
  next: Halves,
  length: number,
): Uint8Array | "unreadable" | "torn" | "absent" {
  if ((begin.lo & 1) !== 0 && (next.lo & 1) !== 0) {
    return begin.lo === EMPTY_LINE && next.lo === EMPTY_LINE ? EMPTY : begin.lo === NO_TEXT ? "absent" : "torn";
  }
  const size = 2 ** log.sizeBits;
  const from = begin.lo & (size - 1);
  const to = next.lo & (size - 1);
  // A text that would not fit behind the others begins the next round.
  const start = begin.lo >>> log.sizeBits === next.lo >>> log.sizeBits || to === 0 ? from : 0;
  const end = to === 0 ? size : to;
  const room = end - start - 8;
  if (room < 0) return "torn";
  const blockAt = { hi: addHi(log.data.hi, log.data.lo, start), lo: addLo(log.data.lo, start) };
  const owner = readPointer(kernel.space, blockAt);
  if (owner === undefined) return "unreadable";
  if ((owner.hi & ID_HI) !== id.hi || owner.lo !== id.lo) return "torn";
  const text = new Uint8Array(Math.min(length, room));
  const from8 = plus(blockAt, 8);
  return kernel.space.read(from8.hi, from8.lo, text) === text.length ? text : "unreadable";
}

interface State extends Halves {
  kind: number;
}

function stateOf(kernel: Kernel, descAt: Halves): State | undefined {
  const value = readPointer(kernel.space, descAt, kernel.layout(descriptor).state_var);
  return value && { hi: value.hi & ID_HI, lo: value.lo, kind: value.hi >>> 30 };
}

/** As it is now, also where memory is copied. */
function stateNow(kernel: Kernel, descAt: Halves): State | undefined {
  if (kernel.memory.direct) return stateOf(kernel, descAt);
  const at = plus(descAt, kernel.layout(descriptor).state_var);
  const bytes = kernel.space.reread(at.hi, at.lo, 8);
  if (bytes === undefined) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const hi = view.getInt32(4, true);
  return { hi: hi & ID_HI, lo: view.getInt32(0, true), kind: hi >>> 30 };
}

const logBuf = symbol("?log_buf");
const logBufLength = symbol("?log_buf_len");
const firstIndex = symbol("?log_first_idx");
const nextIndex = symbol("?log_next_idx");
const firstSequence = symbol("?log_first_seq");
/** To 5.9; `caller_id` with CONFIG_PRINTK_CALLER. */
const printkLog = struct("?printk_log", {
  ts_nsec: "ts_nsec",
  len: "len",
  text_len: "text_len",
  dict_len: "dict_len",
  facility: "facility",
  caller_id: "?caller_id",
});

function walkLogBuffer(
  kernel: Kernel,
  wanted: (head: LogHead) => boolean,
  budget: Budget,
  visit: (record: LogRecord) => boolean,
): LogWalk | undefined {
  const { space } = kernel;
  const log = kernel.layout(printkLog);
  const [bufferAt, lengthAt, firstAt, nextAt, sequenceAt] = [
    logBuf,
    logBufLength,
    firstIndex,
    nextIndex,
    firstSequence,
  ].map((spec) => kernel.optionalPlace(spec));
  if (!bufferAt || !lengthAt || !firstAt || !nextAt || !sequenceAt || log.len < 0) return undefined;
  const buffer = readPointer(space, bufferAt);
  const length = readU32(space, lengthAt);
  let index = readU32(space, firstAt);
  const end = readU32(space, nextAt);
  let sequence = readNumber(space, sequenceAt);
  if (!buffer || length === undefined || index === undefined || end === undefined || sequence === undefined)
    return undefined;
  const { view, bytes } = kernel.memory;
  // No record is shorter than its head, so there are no more than that.
  for (let left = Math.trunc(length / log.sizeof) + 1; left > 0 && index !== end; left--) {
    budget.spend(HEAD_COST);
    const at = plus(buffer, index);
    const head = index + log.sizeof <= length ? space.borrow(at.hi, at.lo, log.sizeof) : -1;
    const size = head < 0 ? 0 : view.getUint16(head + log.len, true);
    // A head of no length: the next record is at the start of the buffer.
    if (head >= 0 && size === 0 && index !== 0) {
      index = 0;
      continue;
    }
    const textLength = head < 0 ? 0 : view.getUint16(head + log.text_len, true);
    const dictLength = head < 0 ? 0 : view.getUint16(head + log.dict_len, true);
    if (head < 0 || size < log.sizeof + textLength + dictLength || index + size > length)
      return { complete: false, torn: 1 };
    const flags = view.getUint8(head + log.facility + 1);
    const fields = {
      sequence,
      time: numberOf(view.getInt32(head + log.ts_nsec + 4, true), view.getInt32(head + log.ts_nsec, true)),
      facility: view.getUint8(head + log.facility),
      level: flags >>> 5,
      continued: (flags & LOG_CONT) !== 0,
      caller: log.caller_id < 0 ? undefined : view.getUint32(head + log.caller_id, true),
    };
    index += size;
    sequence++;
    if (!wanted(fields)) continue;
    budget.spend(RECORD_COST);
    const body = plus(at, log.sizeof);
    const start = space.borrow(body.hi, body.lo, textLength + dictLength);
    if (start < 0) return { complete: false, torn: 0 };
    const text = bytes.slice(start, start + textLength);
    const dictionary = Buffer.from(bytes.slice(start + textLength, start + textLength + dictLength));
    if (!visit({ ...fields, text, ...dictionaryOf(dictionary) })) return { complete: true, torn: 0 };
  }
  return { complete: index === end, torn: 0 };
}

/** `SUBSYSTEM=pci\0DEVICE=+pci:0000:00:01.0` */
function dictionaryOf(bytes: Buffer): { subsystem: Uint8Array; device: Uint8Array } {
  const of = (key: string) => {
    const at = bytes.indexOf(key);
    if (at < 0) return EMPTY;
    const start = at + key.length;
    const zero = bytes.indexOf(0, start);
    return bytes.subarray(start, zero < 0 ? bytes.length : zero);
  };
  return { subsystem: of("SUBSYSTEM="), device: of("DEVICE=") };
}
