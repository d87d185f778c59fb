import { spawn } from "node:child_process";
import { accessSync, constants, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cached, cacheFolder } from "../artefacts/cache.ts";
import { resolveSpec } from "../spec.ts";
import { openChannel } from "./channel.ts";
import { type Acceleration, type BootFiles, qemuArguments, runFiles } from "./command.ts";
import { diesWithUs } from "./process.ts";
import { newRunFolder } from "./run-folder.ts";

/** A guest on a usable KVM is up sooner than this; where KVM only seems to work, nothing ever comes. */
const PATIENCE_MS = 6000;

/**
 * Whether guests can use the processor directly. /dev/kvm that opens proves little (nested hosts offer one on which
 * guests hang), so a guest is really run, once per boot of the host. CLOUDVMI_LAB_ACCEL=kvm|tcg decides instead.
 */
export async function chooseAcceleration(boot: BootFiles, progress: (line: string) => void): Promise<Acceleration> {
  const told = process.env.CLOUDVMI_LAB_ACCEL;
  if (told === "kvm" || told === "tcg") return told;
  if (told) throw new Error(`CLOUDVMI_LAB_ACCEL=${told}: use kvm or tcg`);
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
  } catch {
    return "tcg";
  }
  const bootId = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  const verdict = await cached(join(cacheFolder(), "acceleration", bootId), async (temporary) => {
    progress("trying whether guests run on KVM here");
    const found = (await runsOnKvm(boot)) ? "kvm" : "tcg";
    progress(found === "kvm" ? "KVM works" : "KVM does not: guests are emulated");
    writeFileSync(temporary, found);
  });
  return readFileSync(verdict, "utf8") === "kvm" ? "kvm" : "tcg";
}

async function runsOnKvm(boot: BootFiles): Promise<boolean> {
  const folder = newRunFolder();
  try {
    const spec = resolveSpec({ kernel: "6.1", ram: "anonymous", workload: "quiet" }, crypto.randomUUID());
    const files = runFiles(folder);
    const [program, args] = diesWithUs("qemu-system-x86_64", qemuArguments(spec, files, "kvm", boot, undefined));
    const child = spawn(program, args, { stdio: "ignore" });
    const ended = new Promise<void>((resolve) => {
      child.once("error", () => resolve());
      child.once("exit", () => resolve());
    });
    const signal = AbortSignal.timeout(PATIENCE_MS);
    try {
      const alive = (async () => {
        const channel = await openChannel(files.control, signal);
        await channel.request("hello", "", signal);
        channel.close();
        return true;
      })();
      return await Promise.race([alive.catch(() => false), ended.then(() => false)]);
    } finally {
      child.kill("SIGKILL");
      await ended;
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
