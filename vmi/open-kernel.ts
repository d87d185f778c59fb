import { type Candidate, stillThere } from "./candidate.ts";
import type { VcpuRegisters } from "./driver/driver.ts";
import { FileMissing, GuestError } from "./errors.ts";
import { imageBytes } from "./kernel-image.ts";
import { Kernel } from "./linux/kernel.ts";
import { initTask } from "./linux/task-struct.ts";
import { type OpenedSymbols, openSymbols, supplyHint } from "./open-symbols.ts";
import { Btf } from "./symbols/btf.ts";
import type { Kallsyms, SymbolPosition } from "./symbols/kallsyms.ts";
import { buildProfile, type Profile, sealOf, seals, symbolPosition } from "./symbols/profile.ts";
import { type SymbolSpec, symbol } from "./symbols/specs.ts";
import type { SuppliedFile } from "./symbols/supplied-file.ts";

export interface Attached {
  readonly kernel: Kernel;
  /** False when what proved the kernel is no longer in memory: the guest was reset, or another kernel took over. */
  readonly stillThere: (registers: readonly VcpuRegisters[]) => boolean;
  readonly profileWasCached: boolean;
  /** The kernel's types, read anew at each call. */
  readonly types: () => Btf;
}

const stext = symbol("_stext");
/** Where BTF lies: from 5.7 (90ceddcb4950), and as objcopy named it before. */
const btfBounds = [
  [symbol("?__start_BTF"), symbol("?__stop_BTF")],
  [symbol("?_binary__btf_vmlinux_bin_start"), symbol("?_binary__btf_vmlinux_bin_end")],
] as const;

/**
 * A kernel with its symbols and types: its own, or those of a file. Throws GuestError.
 *
 * @param image of the kernel as it is installed, to compare it with, or why there is none
 */
export function openKernel(
  candidate: Candidate,
  profiles: readonly Profile[],
  supplied: SuppliedFile | undefined,
  image?: Uint8Array | string,
): Attached {
  const { space, release, kaslrOffset, physBase } = candidate;
  const hints = profiles.flatMap(({ symbolHint }) => symbolHint);
  const symbols = openSymbols(candidate, hints, supplied);
  const { kallsyms, buildId } = symbols;
  const suppliedTypes = supplied?.types;
  let profile = profiles.find((known) => known.buildId === buildId && fits(known, candidate, symbols, suppliedTypes));
  const profileWasCached = profile !== undefined;
  profile ??= profileOf(candidate, symbols, suppliedTypes);
  const kernel = new Kernel({ space, kallsyms, profile, release, kaslrOffset, physBase, image });
  return {
    kernel,
    profileWasCached,
    stillThere: (registers) => stillThere(candidate, registers),
    types: () => {
      const types = suppliedTypes ?? typesOf(candidate, kallsyms, (spec) => symbolPosition(profile, spec));
      if (types === undefined) throw noTypes(candidate, buildId);
      return new Btf(types);
    },
  };
}

/** One that fits another kernel may name any place at all: that is no reason to refuse this guest. */
function fits(
  profile: Profile,
  candidate: Candidate,
  { kallsyms, tables }: OpenedSymbols,
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

function profileOf(candidate: Candidate, symbols: OpenedSymbols, supplied: Uint8Array | undefined): Profile {
  const { kallsyms, tables, buildId, hint } = symbols;
  const found = kallsyms.find([stext, initTask, ...btfBounds.flat()].map(({ name }) => name));
  const own = typesOf(candidate, kallsyms, (spec) => found.get(spec.name));
  if (!found.has(initTask.name)) {
    const text = `the symbol table of kernel ${candidate.release} holds functions only (CONFIG_KALLSYMS_ALL is needed)`;
    throw new FileMissing(buildId, "symbols", `${text}${supplyHint("symbols", buildId)}`);
  }
  const types = supplied ?? own;
  if (types === undefined) throw noTypes(candidate, buildId);
  let btf: Btf;
  try {
    btf = new Btf(types);
  } catch (error) {
    if (supplied !== undefined || !(error instanceof GuestError)) throw error;
    throw new FileMissing(buildId, "types", `${error.message}${supplyHint("types", buildId)}`);
  }
  return buildProfile({ buildId, seal: sealOf([...tables, types]), symbolHint: hint }, btf, kallsyms);
}

function noTypes({ release }: Candidate, buildId: string): FileMissing {
  const text = `kernel ${release} carries no type information (CONFIG_DEBUG_INFO_BTF)`;
  return new FileMissing(buildId, "types", `${text}${supplyHint("types", buildId)}`);
}

/** The kernel's BTF, by the places of three symbols, from which the encoding of addresses is learnt too. */
function typesOf(
  candidate: Candidate,
  kallsyms: Kallsyms,
  positionOf: (spec: SymbolSpec) => SymbolPosition | undefined,
): Uint8Array | undefined {
  kallsyms.calibrate(stext.name, positionOf(stext), candidate.stext);
  const addressOf = (spec: SymbolSpec) => {
    const position = positionOf(spec);
    const found = position && kallsyms.at(position);
    return found?.name === spec.name ? found.address : undefined;
  };
  for (const [first, last] of btfBounds) {
    const [start, stop] = [addressOf(first), addressOf(last)];
    if (start !== undefined && stop !== undefined) return imageBytes(candidate, start, Number(stop - start));
  }
  return undefined;
}
