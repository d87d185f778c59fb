import { PAGE_SIZE } from "../bytes/address.ts";
import type { PhysicalMemory } from "../memory/physical-memory.ts";

/**
 * The VMCOREINFO note that every kernel with crash support keeps in memory (kernel/vmcore_info.c, before 6.9
 * kernel/crash_core.c): an ELF note that begins a page, or its text alone in a page of its own.
 */
export interface Vmcoreinfo {
  /** Where the note, or the text, begins. */
  readonly gpa: number;
  readonly text: string;
  readonly fields: ReadonlyMap<string, string>;
}

const NAME = "VMCOREINFO\0\0";
const NOTE_HEADER = 12 + NAME.length;
/** n_namesz = strlen("VMCOREINFO") + 1, the first word of the note. */
const NAME_SIZE = 11;
/** "OSRE", the first word of a plain text copy. */
const OSRE = 0x4552_534f;
const CHUNK = 1 << 20;

/** Calls `found` for every page that begins with the note; stops when it returns true. */
export function findVmcoreinfo(memory: PhysicalMemory, found: (note: Vmcoreinfo) => boolean): void {
  memory.scan(CHUNK, (piece) => {
    let from = 0;
    for (;;) {
      const at = nextCandidate(piece.view, piece.index + from, piece.index + piece.length);
      if (at < 0) return false;
      const start = at - piece.index;
      const page = piece.bytes.subarray(at, piece.index + Math.min(start + PAGE_SIZE, piece.length));
      const note = parseNote(page, piece.gpa + start);
      if (note !== undefined && found(note)) return true;
      from = start + PAGE_SIZE;
    }
  });
}

/** A function of its own, over one piece, so that it is compiled well (on-stack replacement of long loops is poor). */
function nextCandidate(view: DataView, start: number, end: number): number {
  for (let at = start; at < end; at += PAGE_SIZE) {
    const word = view.getInt32(at, true);
    if (word === NAME_SIZE || word === OSRE) return at;
  }
  return -1;
}

/** The note at the start of a page; undefined when it isn't one. */
export function parseNote(page: Uint8Array, gpa: number): Vmcoreinfo | undefined {
  if (page.length < NOTE_HEADER) return undefined;
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  let start = 0;
  let end = page.length;
  if (view.getInt32(0, true) === NAME_SIZE) {
    for (let i = 0; i < NAME.length; i++) {
      if (page[12 + i] !== NAME.charCodeAt(i)) return undefined;
    }
    start = NOTE_HEADER;
    end = Math.min(end, start + view.getUint32(4, true));
  }
  const zero = page.indexOf(0, start);
  if (zero >= 0) end = Math.min(end, zero);
  const text = Buffer.from(page.subarray(start, end)).toString("latin1");
  if (!text.startsWith("OSRELEASE=")) return undefined;
  const fields = new Map<string, string>();
  for (const line of text.split("\n")) {
    const equals = line.indexOf("=");
    if (equals > 0) fields.set(line.slice(0, equals), line.slice(equals + 1));
  }
  return { gpa, text, fields };
}

/** `SYMBOL(name)`: a kernel virtual address. */
export function symbolField(note: Vmcoreinfo, name: string): bigint | undefined {
  return hexadecimal(note.fields.get(`SYMBOL(${name})`));
}

/** `NUMBER(name)`: decimal, may be negative. */
export function numberField(note: Vmcoreinfo, name: string): bigint | undefined {
  const value = note.fields.get(`NUMBER(${name})`);
  if (value === undefined) return undefined;
  if (/^-?\d+$/.test(value)) return BigInt(value);
  return hexadecimal(value.replace(/^0x/, ""));
}

/** `OFFSET(struct.member)`. */
export function offsetField(note: Vmcoreinfo, member: string): number | undefined {
  const value = note.fields.get(`OFFSET(${member})`);
  return value !== undefined && /^\d{1,6}$/.test(value) ? Number(value) : undefined;
}

function hexadecimal(value: string | undefined): bigint | undefined {
  return value !== undefined && /^[0-9a-f]{1,16}$/.test(value) ? BigInt(`0x${value}`) : undefined;
}
