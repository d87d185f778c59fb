import { CR0_PG } from "./arch/x86-64.ts";
import { proveNote, runsOn } from "./candidate.ts";
import type { VcpuRegisters } from "./driver/driver.ts";
import { GuestError } from "./errors.ts";
import { hintedNote } from "./known-kernel.ts";
import type { Kernel } from "./linux/kernel.ts";
import { plus, readPointer, sameAddress } from "./linux/read.ts";
import { initTask, taskStruct } from "./linux/task-struct.ts";
import { clockOf } from "./linux/timekeeping.ts";
import { looksEncrypted } from "./memory/entropy.ts";
import type { PhysicalMemory } from "./memory/physical-memory.ts";
import { type Attached, openKernel } from "./open-kernel.ts";
import { decodeProfile } from "./symbols/profile.ts";
import { suppliedFile } from "./symbols/supplied-file.ts";
import { findVmcoreinfo, type Vmcoreinfo } from "./symbols/vmcoreinfo.ts";

export interface AttachOptions {
  /** Registers of the running vCPUs: they prove which kernel runs, where memory alone may hold several. */
  readonly registers?: readonly VcpuRegisters[];
  /** Encoded profiles from earlier attachments. One is used only if it fits this guest's own tables. */
  readonly profiles?: readonly Uint8Array[];
  /** It is a copy, which asking again does not change: only what failures say differs. */
  readonly image?: boolean;
  /**
   * A file of this very kernel build (BTF or ISF, gzip or not): its types take the place of the kernel's own, its symbols
   * (ISF) are used where the kernel has none, or none of data.
   */
  readonly types?: Uint8Array;
  /**
   * The image of this very kernel build as it is installed (vmlinuz), which its text is compared with; see the check
   * kernel-text. It is looked into when that is asked for. A text says why there is none.
   */
  readonly kernelImage?: Uint8Array | string;
}

const MAX_CANDIDATES = 16;
/** Notes that prove nothing are refused quickly, and any program of the guest can have some in its memory. */
const MAX_REFUSED = 65_536;
/** Tasks that come and go can be met at a bad moment. */
const IDLE_TASK_ATTEMPTS = 4;

/**
 * Finds the kernel that runs in a guest: by its VMCOREINFO note, whose claims must agree with its own page tables, with
 * its init_uts_ns, and with the vCPUs' registers. Where there are no registers and several kernels agree with
 * themselves (a RAM file that still holds an earlier boot), the one whose clock is latest is taken.
 * Throws GuestError "no-kernel", "not-running", "booting", "encrypted", "unsupported-kernel" (FileMissing where a file would
 * help), or "bad-request" when what is supplied is no file of types.
 */
export function attachKernel(memory: PhysicalMemory, options: AttachOptions): Attached {
  memory.dropCaches();
  const registers = options.registers ?? [];
  const seen = new Set<string>();
  const refused: string[] = [];
  let best: { attached: Attached; clock: number } | undefined;
  let problem: GuestError | undefined;
  const supplied = options.types && suppliedFile(options.types);
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
      const attached = openKernel(candidate, profiles, supplied, options.kernelImage);
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
