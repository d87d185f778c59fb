import { type Halves, numberOf } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { cpus, perCpu } from "./per-cpu.ts";
import { plus, readCString, readPointer, readU32 } from "./read.ts";

/** What each CPU was found to be (arch/x86/kernel/cpu/common.c), for x86-64. */
const cpuInfo = symbol("?cpu_info");
/** Without SMP there is but this. */
const bootCpuData = symbol("?boot_cpu_data");
const onlineMask = symbol("?__cpu_online_mask");
const cpuKhz = symbol("?cpu_khz");
const capabilityFlags = symbol("?x86_cap_flags");
const bugFlags = symbol("?x86_bug_flags");

/** arch/x86/include/asm/processor.h */
const cpuinfo = struct("?cpuinfo_x86", {
  family: "x86",
  model: "x86_model",
  stepping: "x86_stepping",
  virtualBits: "x86_virt_bits",
  physicalBits: "x86_phys_bits",
  capability: "x86_capability",
  vendor: "x86_vendor_id",
  modelName: "x86_model_id",
  cacheSize: "x86_cache_size",
  cores: "booted_cores",
  microcode: "microcode",
  loops: "loops_per_jiffy",
  /** Within `topo` from 6.7 (02fb601d27a7, 8a169ed40fab). */
  package: ["topo.pkg_id", "phys_proc_id"],
  core: ["topo.core_id", "cpu_core_id"],
  apic: ["topo.apicid", "apicid"],
});

const VENDOR_SIZE = 16;
const MODEL_SIZE = 64;
const NAME_SIZE = 32;
/** Words of capabilities and bugs together: 20 to 25 in the kernels there are. */
const MAX_WORDS = 64;
const MAX_BUG_WORDS = 4;

export interface Cpu {
  readonly cpu: number;
  readonly online: boolean;
  readonly vendor: Uint8Array | undefined;
  readonly modelName: Uint8Array | undefined;
  readonly family: number;
  readonly model: number;
  readonly stepping: number;
  readonly microcode: number;
  readonly cacheKiB: number;
  readonly physicalBits: number;
  readonly virtualBits: number;
  /** Of its package. */
  readonly cores: number;
  readonly package: number;
  readonly core: number;
  readonly apic: number;
  readonly loopsPerJiffy: number;
  readonly capability: Uint32Array;
  /** Where it keeps all that. */
  readonly at: Halves;
}

/** The CPUs that have been started at some time. */
export function readCpus(kernel: Kernel): { readonly cpus: readonly Cpu[]; readonly complete: boolean } | undefined {
  const layout = kernel.layout(cpuinfo);
  const base = kernel.optionalPlace(cpuInfo);
  const single = kernel.optionalPlace(bootCpuData);
  if (layout.family < 0 || (base === undefined && single === undefined)) return undefined;
  const mask = kernel.optionalPlace(onlineMask);
  const found: Cpu[] = [];
  let complete = true;
  for (const cpu of cpus(kernel)) {
    const at = base === undefined ? single : perCpu(kernel, base, cpu);
    const word = mask === undefined ? 1 : readU32(kernel.space, mask, (cpu >>> 5) * 4);
    const online = mask === undefined || (((word ?? 0) >>> (cpu & 31)) & 1) === 1;
    const read = at && readCpu(kernel, cpu, at, online);
    if (read === undefined) complete = false;
    // One that never ran has no family.
    else if (online || read.family !== 0) found.push(read);
  }
  return { cpus: found, complete };
}

function readCpu(kernel: Kernel, cpu: number, at: Halves, online: boolean): Cpu | undefined {
  const layout = kernel.layout(cpuinfo);
  const base = kernel.space.borrow(at.hi, at.lo, layout.sizeof);
  if (base < 0) return undefined;
  const { view } = kernel.memory;
  const u8 = (offset: number) => view.getUint8(base + offset);
  const u16 = (offset: number) => view.getUint16(base + offset, true);
  const u32 = (offset: number) => view.getUint32(base + offset, true);
  const words = wordsOf(kernel);
  const capability = Uint32Array.from({ length: words.all }, (_, i) => u32(layout.capability + i * 4));
  const fields = {
    family: u8(layout.family),
    model: u8(layout.model),
    stepping: u8(layout.stepping),
    microcode: u32(layout.microcode),
    cacheKiB: u32(layout.cacheSize),
    physicalBits: u8(layout.physicalBits),
    virtualBits: u8(layout.virtualBits),
    cores: u16(layout.cores),
    // u16 within struct cpuinfo_x86, u32 within struct cpuinfo_topology; no package or core has a higher number.
    package: u16(layout.package),
    core: u16(layout.core),
    apic: u16(layout.apic),
    loopsPerJiffy: numberOf(view.getInt32(base + layout.loops + 4, true), view.getInt32(base + layout.loops, true)),
  };
  return {
    cpu,
    online,
    at,
    capability,
    ...fields,
    vendor: readCString(kernel.space, plus(at, layout.vendor), VENDOR_SIZE),
    modelName: readCString(kernel.space, plus(at, layout.modelName), MODEL_SIZE),
  };
}

/**
 * How many 32-bit words of capabilities there are (NCAPINTS), and with those of bugs behind them. `x86_capability` ends
 * where the vendor's name begins; of the two lists of names, which are made side by side, one begins where the other ends.
 */
function wordsOf(kernel: Kernel): { capabilities: number; all: number } {
  const layout = kernel.layout(cpuinfo);
  const all = Math.min(MAX_WORDS, Math.max(0, (layout.vendor - layout.capability) >> 2));
  const names = kernel.optionalPlace(capabilityFlags);
  const bugs = kernel.optionalPlace(bugFlags);
  if (names === undefined || bugs === undefined) return { capabilities: 0, all };
  const distance = (bugs.lo - names.lo) | 0;
  const words = Math.abs(distance) >> 8;
  const capabilities = distance > 0 ? words : all - words;
  const plausible = capabilities > 0 && all - capabilities > 0 && all - capabilities <= MAX_BUG_WORDS;
  return plausible ? { capabilities, all } : { capabilities: 0, all };
}

/** Names of what a CPU can, and of its defects, as /proc/cpuinfo has them; undefined where the kernel keeps no names. */
export class CpuFlagNames {
  readonly #kernel: Kernel;
  readonly #names = new Map<number, Uint8Array | undefined>();

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  flags(cpu: Cpu): Uint8Array | undefined {
    const { capabilities } = wordsOf(this.#kernel);
    return this.#list(cpu, capabilityFlags, 0, capabilities);
  }

  bugs(cpu: Cpu): Uint8Array | undefined {
    const { capabilities, all } = wordsOf(this.#kernel);
    return this.#list(cpu, bugFlags, capabilities, capabilities === 0 ? 0 : all);
  }

  #list(cpu: Cpu, list: typeof bugFlags, from: number, to: number): Uint8Array | undefined {
    const names = this.#kernel.optionalPlace(list);
    if (names === undefined || to === 0) return undefined;
    const parts: Uint8Array[] = [];
    for (let bit = from * 32; bit < to * 32; bit++) {
      if ((((cpu.capability[bit >>> 5] ?? 0) >>> (bit & 31)) & 1) === 0) continue;
      const name = this.#name(names, bit, bit - from * 32);
      if (name !== undefined && name.length > 0) parts.push(...(parts.length > 0 ? [SPACE] : []), name);
    }
    return Buffer.concat(parts);
  }

  /** Those that the kernel does not show have none. */
  #name(names: Halves, bit: number, index: number): Uint8Array | undefined {
    if (!this.#names.has(bit)) {
      const at = readPointer(this.#kernel.space, names, index * 8);
      this.#names.set(bit, at && readCString(this.#kernel.space, at, NAME_SIZE));
    }
    return this.#names.get(bit);
  }
}

const SPACE = Buffer.from(" ");

/** The rate of the processor's clock as the kernel measured or was told it at boot. Undefined when it isn't known. */
export function clockKhz(kernel: Kernel): number | undefined {
  const place = kernel.optionalPlace(cpuKhz);
  const value = place && readU32(kernel.space, place);
  return value === 0 ? undefined : value;
}
