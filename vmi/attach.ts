import { CR0_PG, CR3_PTI_USER, CR4_LA57, fiveLevel, fourLevel } from "./arch/x86-64.ts";
import { addHi, addLo, hiOf, loOf, PAGE_SIZE } from "./bytes/address.ts";
import type { VcpuRegisters } from "./driver/driver.ts";
import { GuestError, TypesMissing } from "./errors.ts";
import { hintedNote } from "./known-kernel.ts";
import { imageGpa, Kernel } from "./linux/kernel.ts";
import { plus, readPointer, sameAddress } from "./linux/read.ts";
import { initTask, taskStruct } from "./linux/task-struct.ts";
import { clockOf } from "./linux/timekeeping.ts";
import { AddressSpace } from "./memory/address-space.ts";
import { looksEncrypted } from "./memory/entropy.ts";
import { PageTables } from "./memory/page-tables.ts";
import type { PhysicalMemory } from "./memory/physical-memory.ts";
import { Btf } from "./symbols/btf.ts";
import { Kallsyms, type SymbolPosition } from "./symbols/kallsyms.ts";
import { buildProfile, decodeProfile, type Profile, sealOf, seals, symbolPosition } from "./symbols/profile.ts";
import { type SymbolSpec, symbol } from "./symbols/specs.ts";
import { btfOfFile } from "./symbols/supplied-types.ts";
import {
  findVmcoreinfo,
  numberField,
  offsetField,
  parseNote,
  symbolField,
  type Vmcoreinfo,
} from "./symbols/vmcoreinfo.ts";

export interface AttachOptions {
  /** Registers of the running vCPUs: they prove which kernel runs, where memory alone may hold several. */
  readonly registers?: readonly VcpuRegisters[];
  /** Encoded profiles from earlier attachments. One is used only if it fits this guest's own tables. */
  readonly profiles?: readonly Uint8Array[];
  /** It is a copy, which asking again does not change: only what failures say differs. */
  readonly image?: boolean;
  /** A file with the types of this very kernel build (BTF or ISF, gzip or not), in place of the kernel's own. */
  readonly types?: Uint8Array;
}

export interface Attached {
  readonly kernel: Kernel;
  /** False when what proved the kernel is no longer in memory: the guest was reset, or another kernel took over. */
  readonly stillThere: (registers: readonly VcpuRegisters[]) => boolean;
  readonly profileWasCached: boolean;
  /** The kernel's types, read anew at each call. */
  readonly types: () => Btf;
}

/** Kernel tables larger than this are not believed. */
const MAX_TABLE = 64 << 20;
const MAX_CANDIDATES = 16;
/** Notes that prove nothing are refused quickly, and any program of the guest can have some in its memory. */
const MAX_REFUSED = 65_536;
/** Tasks that come and go can be met at a bad moment. */
const IDLE_TASK_ATTEMPTS = 4;
/** sizeof(new_utsname.sysname) + sizeof(new_utsname.nodename): `release` is the third member (include/uapi/linux/utsname.h). */
const UTS_RELEASE = 2 * 65;

/**
 * Finds the kernel that runs in a guest: by its VMCOREINFO note, whose claims must agree with its own page tables, with
 * its init_uts_ns, and with the vCPUs' registers. Where there are no registers and several kernels agree with
 * themselves (a RAM file that still holds an earlier boot), the one whose clock is latest is taken.
 * Throws GuestError "no-kernel", "not-running", "booting", "encrypted", "unsupported-kernel" (TypesMissing where types that are
 * supplied would help), or "bad-request" when what is supplied is no file of types.
 */
export function attachKernel(memory: PhysicalMemory, options: AttachOptions): Attached {
  memory.dropCaches();
  const registers = options.registers ?? [];
  const seen = new Set<string>();
  const refused: string[] = [];
  let best: { attached: Attached; clock: number } | undefined;
  let problem: GuestError | undefined;
  const supplied = options.types && btfOfFile(options.types);
  const profiles = (options.profiles ?? []).map(decodeProfile).filter((profile) => profile !== undefined);
  /** True when no other note needs to be looked at. */
  const consider = (note: Vmcoreinfo): boolean => {
    if (seen.has(note.text)) return false;
    const candidate = proveNote(memory, note);
    if (typeof candidate === "string") {
      refused.push(candidate);
      return refused.length >= MAX_REFUSED;
    }
    seen.add(note.text);
    if (registers.length > 0 && !runsOn(candidate, registers)) {
      refused.push(`Linux ${candidate.release} is in memory but no vCPU runs it`);
      return seen.size >= MAX_CANDIDATES;
    }
    try {
      const attached = openKernel(candidate, profiles, supplied);
      requireIdleTask(attached.kernel, supplied !== undefined);
      const clock = clockOf(attached.kernel)?.realSeconds ?? -1;
      if (best === undefined || clock > best.clock) best = { attached, clock };
    } catch (error) {
      if (!(error instanceof GuestError)) throw error;
      problem ??= error;
    }
    return (registers.length > 0 && best !== undefined) || seen.size >= MAX_CANDIDATES;
  };
  // With a known kernel and registers there is nothing to search for, however large the guest.
  const hinted = registers.some((vcpu) =>
    profiles.some((profile) => {
      const note = hintedNote(memory, vcpu, profile);
      return note !== undefined && consider(note);
    }),
  );
  if (!hinted) findVmcoreinfo(memory, consider);
  if (best === undefined) throw problem ?? noKernel(memory, refused, options);
  requireTasks(best.attached.kernel);
  return best.attached;
}

interface Candidate {
  readonly note: Vmcoreinfo;
  readonly space: AddressSpace;
  readonly release: string;
  readonly physBase: bigint;
}

/** The address space that a note describes, when the tables there and the kernel's own name agree with it; else why not. */
function proveNote(memory: PhysicalMemory, note: Vmcoreinfo): Candidate | string {
  const release = note.fields.get("OSRELEASE") ?? "";
  // It goes into messages. __NEW_UTS_LEN is 64.
  if (!/^[\x21-\x7e]{1,64}$/.test(release)) return "a VMCOREINFO note in memory names no release";
  const physBase = numberField(note, "phys_base");
  const swapper = symbolField(note, "swapper_pg_dir");
  const stext = symbolField(note, "_stext");
  const uts = symbolField(note, "init_uts_ns");
  const utsName = offsetField(note, "uts_namespace.name");
  if (
    physBase === undefined ||
    swapper === undefined ||
    stext === undefined ||
    uts === undefined ||
    utsName === undefined
  ) {
    return `the VMCOREINFO note of Linux ${release} lacks a needed entry`;
  }
  const mmu = numberField(note, "pgtable_l5_enabled") === 1n ? fiveLevel : fourLevel;
  const pgd = imageGpa(swapper, physBase);
  if (!memory.contains(pgd, PAGE_SIZE)) return `the page tables of Linux ${release} are not in RAM`;
  const smeMask = numberField(note, "sme_mask") ?? 0n;
  if (
    new PageTables(memory, mmu, pgd, smeMask).translate(hiOf(stext), loOf(stext))?.gpa !== imageGpa(stext, physBase)
  ) {
    return `remains of Linux ${release} are in memory, its page tables are not`;
  }
  const space = new AddressSpace(memory, mmu, pgd, smeMask);
  const named = new Uint8Array(release.length + 1);
  const at = utsName + UTS_RELEASE;
  space.read(addHi(hiOf(uts), loOf(uts), at), addLo(loOf(uts), at), named);
  if (Buffer.from(named).toString("latin1") !== `${release}\0`)
    return `remains of Linux ${release} are in memory, overwritten in part`;
  return { note, space, release, physBase };
}

/** True when a vCPU's page tables map the kernel where this candidate says it is. */
function runsOn({ note, space, physBase }: Candidate, registers: readonly VcpuRegisters[]): boolean {
  const stext = symbolField(note, "_stext") as bigint;
  const expected = imageGpa(stext, physBase);
  return registers.some(({ registers: vcpu }) => {
    const { cr0 = 0n, cr3 = 0n, cr4 = 0n } = vcpu;
    if ((cr0 & CR0_PG) === 0n) return false;
    const mmu = (cr4 & CR4_LA57) !== 0n ? fiveLevel : fourLevel;
    if (mmu !== space.mmu) return false;
    const smeMask = numberField(note, "sme_mask");
    // Bit 12 tells PTI's user half from the kernel half; without PTI it is part of the address.
    return [cr3, cr3 & ~CR3_PTI_USER].some((value) => {
      const tables = PageTables.ofCr3(space.memory, mmu, value, smeMask);
      return tables.translate(hiOf(stext), loOf(stext))?.gpa === expected;
    });
  });
}

function noKernel(
  memory: PhysicalMemory,
  refused: readonly string[],
  { registers = [], image = false }: AttachOptions,
): GuestError {
  const paging = registers.length === 0 || registers.some((vcpu) => ((vcpu.registers.cr0 ?? 0n) & CR0_PG) !== 0n);
  if (refused.length > 0) {
    return new GuestError(
      "not-running",
      `no running Linux kernel: ${refused[0]}${image ? "" : "; if the guest is starting, ask again in a moment"}`,
    );
  }
  if (looksEncrypted(memory)) {
    const text = image
      ? "the image reads as noise: encrypted (SEV or TDX), or not a memory image"
      : "the guest's memory is encrypted (SEV or TDX) and can't be read from outside";
    return new GuestError("encrypted", text);
  }
  const stage = paging ? "" : "; the vCPUs have not switched paging on: it is in its firmware or switched off";
  return new GuestError(
    "no-kernel",
    image
      ? "no Linux kernel found in the image: is it a whole raw copy of a Linux guest's memory, from address 0?"
      : `no Linux kernel found in the guest's memory${stage}; if it is starting, ask again in a moment`,
  );
}

const stext = symbol("_stext");
const startBtf = symbol("__start_BTF");
const stopBtf = symbol("__stop_BTF");

function openKernel(candidate: Candidate, profiles: readonly Profile[], supplied: Uint8Array | undefined): Attached {
  const { note, space, release, physBase } = candidate;
  const { kallsyms, tables } = openKallsyms(candidate);
  const buildId = note.fields.get("BUILD-ID") ?? "";
  let profile = profiles.find(
    (known) => known.buildId === buildId && fits(known, candidate, kallsyms, tables, supplied),
  );
  const profileWasCached = profile !== undefined;
  profile ??= profileOf(candidate, kallsyms, tables, buildId, supplied);
  const offset = /^[0-9a-f]{1,16}$/.exec(note.fields.get("KERNELOFFSET") ?? "")?.[0] ?? "0";
  const kernel = new Kernel({ space, kallsyms, profile, release, kaslrOffset: Number.parseInt(offset, 16), physBase });
  return {
    kernel,
    profileWasCached,
    stillThere: (registers) => stillThere(candidate, registers),
    types: () => {
      const types = supplied ?? typesOf(candidate, kallsyms, (spec) => symbolPosition(profile, spec));
      if (types === undefined) throw noTypes(candidate, buildId);
      return new Btf(types);
    },
  };
}

function stillThere(candidate: Candidate, registers: readonly VcpuRegisters[]): boolean {
  const { note, space, release } = candidate;
  const page = space.memory.copy(note.gpa, PAGE_SIZE);
  if (page === undefined || parseNote(page, note.gpa)?.text !== note.text) return false;
  const proof = proveNote(space.memory, note);
  if (typeof proof === "string" || proof.space.pgd !== space.pgd || proof.release !== release) return false;
  return registers.length === 0 || runsOn(candidate, registers);
}

/** One that fits another kernel may name any place at all: that is no reason to refuse this guest. */
function fits(
  profile: Profile,
  candidate: Candidate,
  kallsyms: Kallsyms,
  tables: readonly Uint8Array[],
  supplied: Uint8Array | undefined,
): boolean {
  try {
    const own = typesOf(candidate, kallsyms, (spec) => symbolPosition(profile, spec));
    const types = supplied ?? own;
    return types !== undefined && seals(profile.seal, [...tables, types]);
  } catch (error) {
    if (error instanceof GuestError) return false;
    throw error;
  }
}

function profileOf(
  candidate: Candidate,
  kallsyms: Kallsyms,
  tables: readonly Uint8Array[],
  buildId: string,
  supplied: Uint8Array | undefined,
): Profile {
  const found = kallsyms.find([stext.name, startBtf.name, stopBtf.name, initTask.name]);
  const own = typesOf(candidate, kallsyms, (spec) => found.get(spec.name));
  if (!found.has(initTask.name)) {
    throw new GuestError(
      "unsupported-kernel",
      `the symbol table of kernel ${candidate.release} holds functions only (CONFIG_KALLSYMS_ALL is needed)`,
    );
  }
  const types = supplied ?? own;
  if (types === undefined) throw noTypes(candidate, buildId);
  let btf: Btf;
  try {
    btf = new Btf(types);
  } catch (error) {
    if (supplied !== undefined || !(error instanceof GuestError)) throw error;
    throw new TypesMissing(buildId, `${error.message}${supplyHint(buildId)}`);
  }
  return buildProfile(buildId, sealOf([...tables, types]), btf, kallsyms);
}

function noTypes({ release }: Candidate, buildId: string): TypesMissing {
  const text = `kernel ${release} carries no type information (CONFIG_DEBUG_INFO_BTF)`;
  return new TypesMissing(buildId, `${text}${supplyHint(buildId)}`);
}

function supplyHint(buildId: string): string {
  const build = /^[0-9a-f]{8,64}$/.test(buildId) ? ` (build id ${buildId})` : "";
  return `; supply the BTF or ISF file of this very build${build}`;
}

/** The kernel's BTF, by the places of three symbols, from which the encoding of addresses is learnt too. */
function typesOf(
  candidate: Candidate,
  kallsyms: Kallsyms,
  positionOf: (spec: SymbolSpec) => SymbolPosition | undefined,
): Uint8Array | undefined {
  const known = symbolField(candidate.note, stext.name) as bigint;
  kallsyms.calibrate(stext.name, positionOf(stext), known);
  const [start, stop] = [startBtf, stopBtf].map((spec) => {
    const position = positionOf(spec);
    const found = position && kallsyms.at(position);
    return found?.name === spec.name ? found.address : undefined;
  });
  return start === undefined || stop === undefined ? undefined : imageBytes(candidate, start, Number(stop - start));
}

/** The tables as VMCOREINFO's symbols (from 6.0: 5fd8fea935a1, f09bddbd8661) delimit them. */
function openKallsyms(candidate: Candidate): { kallsyms: Kallsyms; tables: readonly Uint8Array[] } {
  const { note, release } = candidate;
  const address = (name: string) => {
    const value = symbolField(note, name);
    if (value !== undefined) return value;
    throw new GuestError(
      "unsupported-kernel",
      `kernel ${release} does not say where its symbol table is (VMCOREINFO of 6.0 or later is needed)`,
    );
  };
  const image = (from: bigint, length: number) => imageBytes(candidate, from, length);
  const namesAddress = address("kallsyms_names");
  const tokensAddress = address("kallsyms_token_table");
  const indexAddress = address("kallsyms_token_index");
  const offsetsAddress = address("kallsyms_offsets");
  const base = symbolField(note, "kallsyms_relative_base");
  const count = Buffer.from(image(address("kallsyms_num_syms"), 4)).readUInt32LE();
  const names = image(namesAddress, Number(tokensAddress - namesAddress));
  const tokenTable = image(tokensAddress, Number(indexAddress - tokensAddress));
  const tokenIndex = image(indexAddress, 512);
  const offsets = image(offsetsAddress, count * 4);
  const relativeBase = base && Buffer.from(image(base, 8)).readBigUInt64LE();
  const kallsyms = new Kallsyms({ names, tokenTable, tokenIndex, offsets, offsetsAddress, relativeBase, count });
  return { kallsyms, tables: [names, tokenTable] };
}

/** Bytes of the kernel image, which is contiguous in physical memory: in place where memory is mapped, else a copy. */
function imageBytes(candidate: Candidate, address: bigint, length: number): Uint8Array {
  const { memory } = candidate.space;
  const gpa = imageGpa(address, candidate.physBase);
  if (!(length > 0 && length <= MAX_TABLE && memory.contains(gpa, length))) {
    throw new GuestError(
      "unsupported-kernel",
      `a table of kernel ${candidate.release} at 0x${address.toString(16)} is not in its image`,
    );
  }
  if (memory.direct) return memory.bytes.subarray(gpa, gpa + length);
  const copy = memory.copy(gpa, length);
  if (copy === undefined)
    throw new GuestError("inconsistent", `the image of kernel ${candidate.release} can't be read`);
  return copy;
}

/**
 * The list of tasks begins and ends at init_task. Where it does not, the kernel's data is overwritten, its clock too.
 * The last task may be on its way in or out, and is then one behind what init_task says.
 */
function requireIdleTask(kernel: Kernel, supplied: boolean): void {
  const head = plus(kernel.place(initTask), kernel.layout(taskStruct).tasks);
  for (let attempt = 0; attempt < IDLE_TASK_ATTEMPTS; attempt++) {
    if (attempt > 0) kernel.dropCaches();
    const [first, last] = [readPointer(kernel.space, head), readPointer(kernel.space, head, 8)];
    const back = first && readPointer(kernel.space, first, 8);
    const end = last && readPointer(kernel.space, last);
    const beyond = end && readPointer(kernel.space, end);
    const ends = [end, beyond].some((at) => at !== undefined && sameAddress(at, head));
    if (back !== undefined && sameAddress(back, head) && ends) return;
  }
  if (supplied) {
    throw new GuestError(
      "unsupported-kernel",
      `the types that were supplied do not fit Linux ${kernel.release}: they have to be of this very build`,
    );
  }
  throw new GuestError(
    "not-running",
    `remains of Linux ${kernel.release} are in memory, overwritten in part; if the guest is starting, ask again in a moment`,
  );
}

/** A kernel that has not yet started its first process has nothing to tell. */
function requireTasks(kernel: Kernel): void {
  const head = plus(kernel.place(initTask), kernel.layout(taskStruct).tasks);
  const first = readPointer(kernel.space, head);
  if (first === undefined || sameAddress(first, head)) {
    throw new GuestError(
      "booting",
      `Linux ${kernel.release} is starting and has no process yet; ask again in a moment`,
    );
  }
}
