import type { KernelFlavour, KernelRelease, KernelSeries } from "./artefacts/apt.ts";

/** What a guest is to be. Only the kernel must be chosen. */
export interface GuestSpec {
  kernel: KernelSeries;
  /** Which of Debian's builds of it (default cloud). Others than the newest cloud kernels are downloaded when first asked for. */
  flavour?: KernelFlavour;
  /** The oldest or the newest that the archive offers (default latest). */
  release?: KernelRelease;
  /** 5-level paging (default: true on an emulated CPU, what the host has otherwise). */
  la57?: boolean;
  /** Default 1. */
  vcpus?: 1 | 2;
  /** Default 512, with systemd 1024. From 4096 on there is RAM above the PCI hole; only what the guest touches costs the host memory. */
  memoryMiB?: number;
  /** Where the guest's RAM lives on the host (default memfd); `anonymous` is what QEMU does unasked. */
  ram?: "memfd" | "file" | "anonymous";
  /** File for RAM of the kind `file`. One that exists keeps its content: the remains of an earlier boot. Default: a new one. */
  ramFile?: string;
  /** State of a machine like this one (`saveState`), whose RAM is in `ramFile`: it stands still where that one was. */
  stateFile?: string;
  /** QEMU's name of the guest, and its host name (default: lab-KERNEL, with the flavour and the release where they are others than the defaults). */
  name?: string;
  /** Default: random. */
  uuid?: string;
  /**
   * standard: one process for each thing an observer may get wrong. churn: these, and processes that keep starting and
   * ending. full: these, and every program of lab/guest/full, so that there is something in every table.
   */
  workload?: "standard" | "churn" | "quiet" | "full";
  /** What starts everything: busybox's init and a script (default), or systemd with what a small Debian system has. */
  system?: "busybox" | "systemd";
  /** Separate page tables for kernel and user (default: the kernel decides; it takes an emulated CPU to be safe). */
  pti?: boolean;
  /** So many sleeping processes more. */
  extraTasks?: number;
  /** The tricks of `tricks` can be played in it: it has the lab's module and programs for them, and the mark that the module asks for. */
  tricks?: boolean;
  /** Default q35. */
  machine?: "q35" | "pc";
  /** What a reboot from inside does (default "reboot"). */
  onReboot?: "reboot" | "exit";
}

/** A spec with every choice made. */
export type ResolvedSpec = GuestSpec & Required<Omit<GuestSpec, "ramFile" | "stateFile" | "la57" | "pti">>;

/**
 * Fills in the defaults.
 * @throws RangeError when a value makes no sense, with what to write instead.
 */
export function resolveSpec(spec: GuestSpec, uuid: string): ResolvedSpec {
  const { kernel, flavour = "cloud", release = "latest" } = spec;
  const parts = [kernel, ...(flavour === "cloud" ? [] : [flavour]), ...(release === "latest" ? [] : [release])];
  const resolved: ResolvedSpec = {
    flavour,
    release,
    vcpus: 1,
    memoryMiB: spec.system === "systemd" ? 1024 : 512,
    ram: "memfd",
    name: `lab-${parts.join("-")}`,
    uuid,
    workload: "standard",
    system: "busybox",
    extraTasks: 0,
    tricks: false,
    machine: "q35",
    onReboot: "reboot",
    ...definedOf(spec),
  };
  if (!/^[\w.-]{1,60}$/.test(resolved.name)) {
    throw new RangeError(`guest name "${resolved.name}": use letters, digits, dots and dashes, at most 60`);
  }
  if (!Number.isInteger(resolved.memoryMiB) || resolved.memoryMiB < 256) {
    throw new RangeError(`memory of ${resolved.memoryMiB} MiB: use a whole number of at least 256`);
  }
  if (!Number.isInteger(resolved.extraTasks) || resolved.extraTasks < 0) {
    throw new RangeError(`${resolved.extraTasks} extra tasks: use a whole number of at least 0`);
  }
  if (resolved.ramFile !== undefined && resolved.ram !== "file") {
    throw new RangeError(`ramFile needs ram "file", not "${resolved.ram}"`);
  }
  if (resolved.stateFile !== undefined && resolved.ramFile === undefined) {
    throw new RangeError("stateFile needs the ramFile of the machine that it is of");
  }
  return resolved;
}

function definedOf(spec: GuestSpec): GuestSpec {
  return Object.fromEntries(Object.entries(spec).filter(([, value]) => value !== undefined)) as unknown as GuestSpec;
}
