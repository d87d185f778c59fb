import { spawnSync } from "node:child_process";
import { fetchKernel, fetchPackages, type KernelChoice, type KernelSeries } from "./artefacts/apt.ts";
import { locked } from "./artefacts/cache.ts";
import { buildInitramfs, busyboxOf, extendInitramfs, unpackUserland } from "./artefacts/initramfs.ts";
import { type Kernel, unpackKernel } from "./artefacts/kernel.ts";
import { run } from "./artefacts/run.ts";
import { systemEntries, unpackSystem } from "./artefacts/systemd.ts";
import { buildModule, trickEntries } from "./artefacts/tricks.ts";
import type { BootFiles } from "./qemu/command.ts";

/** Programs the lab and the agent's sandbox need, and the Debian package of each. */
const programs: Record<string, string> = {
  "qemu-system-x86_64": "qemu-system-x86",
  bwrap: "bubblewrap",
  flock: "util-linux",
  "dpkg-deb": "dpkg",
};

/** Those that build the module of the tricks. */
const compilers: Record<string, string> = { gcc: "gcc", make: "make", ld: "binutils" };

/** What guests of one kernel series boot from. */
export interface LabKernel extends BootFiles, Kernel {}

/** Of both series. */
export type LabKernels = Record<KernelSeries, LabKernel>;

let prepared: Promise<LabKernels> | undefined;

/**
 * Makes this machine ready to boot guests: programs installed, kernels and initramfs in the cache.
 * Installs missing Debian packages when it runs as root, and says so. Done once in a process.
 * @param options.refresh look for newer kernels than the cached ones
 * @throws Error that says what to install, when something is missing and this user may not install it.
 */
export function ensureLab(
  progress: (line: string) => void = () => {},
  options: { refresh?: boolean } = {},
): Promise<LabKernels> {
  if (options.refresh) prepared = undefined;
  prepared ??= prepareLab(progress, options.refresh ?? false).catch((error: unknown) => {
    prepared = undefined;
    throw error;
  });
  return prepared;
}

async function prepareLab(progress: (line: string) => void, refresh: boolean): Promise<LabKernels> {
  await ensurePrograms(programs, progress);
  return alone(progress, async () => {
    const packages = await fetchPackages(progress, refresh);
    const userland = await unpackUserland(packages.userland, progress);
    return {
      "6.1": await prepareKernel(packages.kernels["6.1"], userland, progress),
      "6.12": await prepareKernel(packages.kernels["6.12"], userland, progress),
    };
  });
}

function alone<T>(progress: (line: string) => void, work: () => Promise<T>): Promise<T> {
  return locked("prepare", () => progress("waiting for another process that prepares the lab"), work);
}

async function prepareKernel(deb: string, userland: string, progress: (line: string) => void): Promise<LabKernel> {
  const kernel = await unpackKernel(deb, busyboxOf(userland), progress);
  return { ...kernel, initramfs: await buildInitramfs(kernel, userland, progress) };
}

const others = new Map<string, Promise<LabKernel>>();

/**
 * One kernel of the archive, ready to be booted. The newest cloud kernels are those of {@link ensureLab}; any other is
 * downloaded when it is asked for. Done once in a process.
 */
export async function ensureKernel(
  choice: KernelChoice,
  progress: (line: string) => void = () => {},
): Promise<LabKernel> {
  const kernels = await ensureLab(progress);
  if (choice.flavour === "cloud" && choice.release === "latest") return kernels[choice.kernel];
  const key = Object.values(choice).join();
  const prepared =
    others.get(key) ??
    alone(progress, async () => {
      const deb = await fetchKernel(choice, progress);
      const { userland } = await fetchPackages(progress, false);
      return prepareKernel(deb, await unpackUserland(userland, progress), progress);
    });
  others.set(key, prepared);
  prepared.catch(() => others.delete(key));
  return prepared;
}

const extended = new Map<string, Promise<LabKernel>>();

/** The same kernel with what some guests have besides: systemd, or what the lab's tricks need. Done once in a process. */
export async function extendKernel(
  kernel: LabKernel,
  { system, tricks }: { system: "busybox" | "systemd"; tricks: boolean },
  progress: (line: string) => void,
): Promise<LabKernel> {
  if (system === "busybox" && !tricks) return kernel;
  const key = [kernel.initramfs, system, tricks].join();
  const prepared =
    extended.get(key) ??
    alone(progress, async () => {
      let { initramfs } = kernel;
      if (system === "systemd") {
        const entries = systemEntries(await unpackSystem(progress));
        initramfs = await extendInitramfs(initramfs, "systemd", entries, progress);
      }
      if (tricks) {
        const module = await buildModule(kernel.release, () => ensurePrograms(compilers, progress), progress);
        initramfs = await extendInitramfs(initramfs, "tricks", trickEntries(module), progress);
      }
      return { ...kernel, initramfs };
    });
  extended.set(key, prepared);
  prepared.catch(() => extended.delete(key));
  return prepared;
}

async function ensurePrograms(programs: Record<string, string>, progress: (line: string) => void): Promise<void> {
  if (process.arch !== "x64" || process.platform !== "linux") {
    throw new Error(`the lab's guests need Linux on x86-64, not ${process.platform} on ${process.arch}`);
  }
  const missing = Object.keys(programs).filter((program) => !present(program));
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((program) => programs[program]!))];
  if (process.getuid?.() !== 0 || !present("apt-get")) {
    throw new Error(`missing: ${missing.join(", ")}. Install them with: sudo apt-get install ${packages.join(" ")}`);
  }
  progress(`installing Debian packages: ${packages.join(" ")}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const install = () => run("apt-get", ["install", "--yes", "--no-install-recommends", ...packages], { env });
  try {
    await install();
  } catch {
    // No package lists yet, or such old ones that their files are gone.
    progress("updating the package lists");
    await run("apt-get", ["update"], { env });
    await install();
  }
  const still = missing.filter((program) => !present(program));
  if (still.length > 0) throw new Error(`installed ${packages.join(" ")}, but ${still.join(", ")} is not in PATH`);
}

function present(program: string): boolean {
  return spawnSync("sh", ["-c", 'command -v -- "$1"', "sh", program], { stdio: "ignore" }).status === 0;
}
