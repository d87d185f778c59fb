import { join } from "node:path";
import type { ResolvedSpec } from "../spec.ts";

/** What QEMU runs on: the processor itself, or in software. */
export type Acceleration = "kvm" | "tcg";

/** Files of one guest's run folder. */
export interface RunFiles {
  folder: string;
  /** The monitor for whoever looks at the guest: agent or CLI. */
  qmp: string;
  /** A second one, for what tests compare with. */
  groundQmp: string;
  /** The lab's own. */
  labQmp: string;
  /** The way to the control program inside. */
  control: string;
  /** What the guest wrote on its serial console. */
  console: string;
}

/** The files of a run folder, by its path. */
export function runFiles(folder: string): RunFiles {
  return {
    folder,
    qmp: join(folder, "qmp.sock"),
    groundQmp: join(folder, "ground.sock"),
    labQmp: join(folder, "lab.sock"),
    control: join(folder, "control.sock"),
    console: join(folder, "console.log"),
  };
}

/** What boots: nothing makes a guest that stays in its firmware. */
export interface BootFiles {
  image: string;
  initramfs: string;
}

/** QEMU's arguments. */
export function qemuArguments(
  spec: ResolvedSpec,
  files: RunFiles,
  acceleration: Acceleration,
  boot: BootFiles | undefined,
  ramFile: string | undefined,
): string[] {
  const cpu = spec.la57 === undefined ? "" : spec.la57 ? ",la57=on" : ",la57=off";
  const backed = spec.ram === "anonymous" ? "" : ",memory-backend=ram";
  const args = [
    ["-name", spec.name],
    ["-uuid", spec.uuid],
    ["-machine", `${spec.machine}${backed}`],
    // One thread for all vCPUs: before 8.1 (QEMU's deba78709a) a vCPU may keep running the old translation of code that
    // another one changes, and the kernel, which patches its own jumps, panics of it now and then.
    ["-accel", acceleration === "kvm" ? "kvm" : "tcg,thread=single"],
    ["-cpu", `${acceleration === "kvm" ? "host" : "max"}${cpu}`],
    ["-smp", String(spec.vcpus)],
    ["-m", String(spec.memoryMiB)],
    ["-nodefaults"],
    ["-display", "none"],
    ["-serial", `file:${files.console}`],
    ["-qmp", `unix:${files.qmp},server=on,wait=off`],
    ["-qmp", `unix:${files.groundQmp},server=on,wait=off`],
    ["-chardev", `socket,id=labqmp,path=${files.labQmp},server=on,wait=off`],
    ["-mon", "chardev=labqmp,mode=control"],
    ["-device", "virtio-serial-pci"],
    ["-chardev", `socket,id=control,path=${files.control},server=on,wait=off`],
    ["-device", "virtserialport,chardev=control,name=cloudvmi.lab"],
  ];
  if (spec.ram === "memfd") args.push(["-object", `memory-backend-memfd,id=ram,size=${spec.memoryMiB}M,share=on`]);
  if (ramFile)
    args.push(["-object", `memory-backend-file,id=ram,size=${spec.memoryMiB}M,share=on,mem-path=${ramFile}`]);
  if (spec.onReboot === "exit") args.push(["-no-reboot"]);
  if (spec.stateFile) args.push(["-S"], ["-incoming", "defer"]);
  if (boot) {
    args.push(["-kernel", boot.image], ["-initrd", boot.initramfs], ["-append", kernelArguments(spec)]);
  }
  return args.flat();
}

/** The guest kernel's command line. */
function kernelArguments(spec: ResolvedSpec): string {
  const words = ["console=ttyS0", "quiet"];
  if (spec.pti !== undefined) words.push(spec.pti ? "pti=on" : "pti=off");
  words.push(`lab.name=${spec.name}`, `lab.workload=${spec.workload}`, `lab.extra=${spec.extraTasks}`);
  // The module jumps into functions that the kernel itself never calls by pointer, which indirect branch tracking refuses.
  if (spec.tricks) words.push("lab.tricks=1", "ibt=off");
  return words.join(" ");
}
