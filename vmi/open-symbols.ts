import { hiOf, loOf } from "./bytes/address.ts";
import type { Candidate } from "./candidate.ts";
import { FileMissing, GuestError } from "./errors.ts";
import { imageBytes, imagePieces } from "./kernel-image.ts";
import { initTask } from "./linux/task-struct.ts";
import { kallsymsOfLinked, type LinkedSymbols } from "./symbols/isf-symbols.ts";
import { Kallsyms, type KallsymsParts, type SymbolPosition } from "./symbols/kallsyms.ts";
import { findKallsyms } from "./symbols/kallsyms-search.ts";
import type { SuppliedFile } from "./symbols/supplied-file.ts";
import { symbolField } from "./symbols/vmcoreinfo.ts";

export interface OpenedSymbols {
  readonly kallsyms: Kallsyms;
  /** What a profile's seal covers of them. */
  readonly tables: readonly Uint8Array[];
  /** Bytes from _stext to where the table was found, when it had to be searched for. */
  readonly hint: readonly number[];
  /** Empty when the kernel does not tell. */
  readonly buildId: string;
}

/** A note of the build id is in the first of some hundred bytes. */
const MAX_NOTES = 1 << 16;
const NT_GNU_BUILD_ID = 3;

/**
 * The kernel's symbols: where VMCOREINFO says that they are, or found in its image; a supplied file's where the kernel
 * has none, or none of data. Throws GuestError: FileMissing where a file would help.
 *
 * @param hints bytes from _stext to where the symbols of kernels like this were found
 */
export function openSymbols(
  candidate: Candidate,
  hints: readonly number[],
  supplied: SuppliedFile | undefined,
): OpenedSymbols {
  const own = tellsPlaces(candidate) ? openTold(candidate) : openFound(candidate, hints);
  if (own !== undefined && (supplied === undefined || own.kallsyms.find([initTask.name]).size > 0)) return own;
  const linked = supplied?.symbols();
  if (linked !== undefined) return openLinked(candidate, linked);
  if (own !== undefined) return own;
  const buildId = toldBuildId(candidate) ?? "";
  const text = `kernel ${candidate.release} has no symbol table that can be found (CONFIG_KALLSYMS is needed)`;
  throw new FileMissing(buildId, "symbols", `${text}${supplyHint("symbols", buildId)}`);
}

/** What an operator can do about what a kernel lacks. */
export function supplyHint(lacking: FileMissing["lacking"], buildId: string): string {
  const file = lacking === "types" ? "BTF or ISF file" : "ISF file";
  const build = /^[0-9a-f]{8,64}$/.test(buildId) ? ` (build id ${buildId})` : "";
  return `; supply the ${file} of this very build${build}`;
}

/** VMCOREINFO's symbols (from 6.0: 5fd8fea935a1, f09bddbd8661); relative_base is not in all of them. */
const places = ["names", "token_table", "token_index", "offsets", "num_syms"].map((name) => `kallsyms_${name}`);

function tellsPlaces({ note }: Candidate): boolean {
  return places.every((name) => symbolField(note, name) !== undefined);
}

function openTold(candidate: Candidate): OpenedSymbols {
  const { note } = candidate;
  const image = (from: bigint, length: number) => imageBytes(candidate, from, length);
  const [namesAddress, tokensAddress, indexAddress, offsetsAddress, countAddress] = places.map(
    (name) => symbolField(note, name) as bigint,
  ) as [bigint, bigint, bigint, bigint, bigint];
  const base = symbolField(note, "kallsyms_relative_base");
  const count = Buffer.from(image(countAddress, 4)).readUInt32LE();
  const names = image(namesAddress, Number(tokensAddress - namesAddress));
  const tokenTable = image(tokensAddress, Number(indexAddress - tokensAddress));
  const tokenIndex = image(indexAddress, 512);
  const offsets = image(offsetsAddress, count * 4);
  const relativeBase = base && Buffer.from(image(base, 8)).readBigUInt64LE();
  const kallsyms = new Kallsyms({ names, tokenTable, tokenIndex, offsets, offsetsAddress, relativeBase, count });
  return { kallsyms, tables: [names, tokenTable], hint: [], buildId: toldBuildId(candidate) ?? "" };
}

/**
 * Found by its form, first in what nobody may write: memory that the kernel has freed within its image may hold a
 * program's forgery. What is found must have _stext, and init_uts_ns where it has data, where VMCOREINFO says.
 */
function openFound(candidate: Candidate, hints: readonly number[]): OpenedSymbols | undefined {
  const { stext } = candidate;
  const near = hints.map((hint) => BigInt.asUintN(64, stext + BigInt(hint)));
  const find = (constant: boolean) =>
    findKallsyms(
      () => imagePieces(candidate, constant),
      (variants) => proveFound(candidate, variants),
      near,
    );
  const found = find(true) ?? find(false);
  if (found === undefined) return undefined;
  const { kallsyms, parts, digits } = found;
  const buildId = toldBuildId(candidate) ?? notedBuildId(candidate, kallsyms);
  return { kallsyms, tables: [parts.names, parts.tokenTable], hint: [Number(digits - stext)], buildId };
}

/** Their names are the same, so one pass over these is enough. */
function proveFound({ stext, note }: Candidate, variants: readonly KallsymsParts[]) {
  let found: Map<string, SymbolPosition> | undefined;
  for (const parts of variants) {
    try {
      const kallsyms = new Kallsyms(parts);
      found ??= kallsyms.find(["_stext", "init_uts_ns"]);
      kallsyms.calibrate("_stext", found.get("_stext"), stext);
      const uts = found.get("init_uts_ns");
      if (uts === undefined || kallsyms.address(uts.index) === symbolField(note, "init_uts_ns"))
        return { kallsyms, parts };
    } catch (error) {
      if (!(error instanceof GuestError)) throw error;
    }
  }
  return undefined;
}

/** The symbols of a file, moved by KASLR and proven by what the kernel says of itself. */
function openLinked(candidate: Candidate, linked: LinkedSymbols): OpenedSymbols {
  const { note, stext, kaslrOffset, release } = candidate;
  const parts = kallsymsOfLinked(linked, kaslrOffset);
  const kallsyms = new Kallsyms(parts);
  const found = kallsyms.find(["_stext", "init_uts_ns", "linux_banner", initTask.name]);
  const unfit = () =>
    new GuestError(
      "unsupported-kernel",
      `the symbols that were supplied do not fit Linux ${release}: they have to be of this very build`,
    );
  const positions = ["_stext", "init_uts_ns", "linux_banner", initTask.name].map((name) => found.get(name));
  const [text, uts, banner, task] = positions;
  if (text === undefined || uts === undefined || banner === undefined || task === undefined) throw unfit();
  try {
    kallsyms.calibrate("_stext", text, stext);
  } catch (error) {
    if (error instanceof GuestError) throw unfit();
    throw error;
  }
  if (kallsyms.address(uts.index) !== symbolField(note, "init_uts_ns")) throw unfit();
  const expected = linked.banner ?? Buffer.from(`Linux version ${release} `, "latin1");
  const told = new Uint8Array(expected.length);
  const at = kallsyms.address(banner.index);
  candidate.space.read(hiOf(at), loOf(at), told);
  if (!expected.equals(told)) throw unfit();
  const buildId = toldBuildId(candidate) ?? notedBuildId(candidate, kallsyms);
  return { kallsyms, tables: [parts.names, parts.tokenTable], hint: [], buildId };
}

/** From 5.9 (0935288c6e00). */
function toldBuildId({ note }: Candidate): string | undefined {
  return note.fields.get("BUILD-ID");
}

/** As in the kernel's own notes (/sys/kernel/notes); empty when they are not found. */
function notedBuildId(candidate: Candidate, kallsyms: Kallsyms): string {
  const found = kallsyms.find(["__start_notes", "__stop_notes"]);
  const [start, stop] = [found.get("__start_notes"), found.get("__stop_notes")];
  if (start === undefined || stop === undefined) return "";
  const from = kallsyms.address(start.index);
  const length = kallsyms.address(stop.index) - from;
  const bytes = Buffer.alloc(length > 0n && length <= MAX_NOTES ? Number(length) : 0);
  candidate.space.read(hiOf(from), loOf(from), bytes);
  for (let at = 0; at + 12 <= bytes.length; ) {
    const [nameSize, size, type] = [0, 4, 8].map((word) => bytes.readUInt32LE(at + word)) as [number, number, number];
    const value = at + 12 + roundUp(nameSize);
    if (type === NT_GNU_BUILD_ID && bytes.subarray(at + 12, value).equals(Buffer.from("GNU\0")))
      return bytes.subarray(value, value + Math.min(size, 32)).toString("hex");
    at = value + roundUp(size);
  }
  return "";
}

/** Notes are padded to words. */
function roundUp(size: number): number {
  return Math.ceil(size / 4) * 4;
}
