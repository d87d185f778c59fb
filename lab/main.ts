import { parseArgs } from "node:util";
import { type KernelSeries, kernelFlavours, kernelReleases, kernelSeries } from "./artefacts/apt.ts";
import { ensureLab } from "./ensure.ts";
import { bootFirmwareOnly, bootGuest } from "./guest.ts";
import type { GuestSpec } from "./spec.ts";

const help = `Real guests on this machine, for trying CloudVMI.

  node lab/main.ts prepare [--refresh]   install what is missing, fetch kernels, build the guests' file systems
  node lab/main.ts boot [options]        boot a guest and keep it until ^C

Options of boot:
  --kernel 6.1|6.12          default 6.12
  --flavour cloud|generic|rt default cloud; others are downloaded when first asked for
  --release first|latest     of those that Debian offers; default latest
  --memory MIB               default 512; from 4096 on there is RAM above the PCI hole
  --ram memfd|file|anonymous default memfd
  --ram-file PATH            RAM in this file; one that exists keeps its content (with --ram file)
  --vcpus 1|2                default 1
  --la57 yes|no              5-level paging; default: what the CPU offers
  --pti yes|no               separate page tables for kernel and user; default: the kernel decides
  --machine q35|pc           default q35
  --workload standard|churn|quiet|full
  --system busybox|systemd   default busybox
  --extra-tasks N            N sleeping processes more
  --tricks                   what an intruder does can be played in it (lab/tricks); builds a kernel module
  --name NAME  --uuid UUID
  --firmware                 no system at all: the machine stays in its firmware

CLOUDVMI_LAB_ACCEL=kvm|tcg chooses the acceleration, CLOUDVMI_CACHE the folder for what is fetched and built.
`;

const { values, positionals } = parse();

function parse() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        help: { type: "boolean", short: "h" },
        refresh: { type: "boolean" },
        firmware: { type: "boolean" },
        kernel: { type: "string", default: "6.12" },
        flavour: { type: "string" },
        release: { type: "string" },
        memory: { type: "string" },
        ram: { type: "string" },
        "ram-file": { type: "string" },
        vcpus: { type: "string" },
        la57: { type: "string" },
        pti: { type: "string" },
        machine: { type: "string" },
        workload: { type: "string" },
        "extra-tasks": { type: "string" },
        system: { type: "string" },
        tricks: { type: "boolean" },
        name: { type: "string" },
        uuid: { type: "string" },
      },
    });
  } catch (error) {
    return refuse((error as Error).message);
  }
}

function refuse(why: string): never {
  process.stderr.write(`lab: ${why} (node lab/main.ts --help)\n`);
  process.exit(2);
}

/** The value of an option that knows only certain words. */
function word<T extends string>(name: keyof typeof values, words: readonly T[]): T | undefined {
  const value = values[name];
  if (value === undefined) return undefined;
  return words.find((known) => known === value) ?? refuse(`--${name} ${value}: use ${words.join(" or ")}`);
}

function yes(name: keyof typeof values): boolean | undefined {
  const answer = word(name, ["yes", "no"]);
  return answer === undefined ? undefined : answer === "yes";
}

function number(name: keyof typeof values): number | undefined {
  const value = values[name];
  if (value === undefined) return undefined;
  return /^\d+$/.test(String(value)) ? Number(value) : refuse(`--${name} ${value}: use a whole number`);
}

function specOf(): GuestSpec {
  const vcpus = word("vcpus", ["1", "2"]);
  return {
    kernel: word<KernelSeries>("kernel", kernelSeries)!,
    flavour: word("flavour", kernelFlavours),
    release: word("release", kernelReleases),
    memoryMiB: number("memory"),
    ram: word("ram", ["memfd", "file", "anonymous"]),
    ramFile: values["ram-file"],
    vcpus: vcpus === undefined ? undefined : vcpus === "1" ? 1 : 2,
    la57: yes("la57"),
    pti: yes("pti"),
    machine: word("machine", ["q35", "pc"]),
    workload: word("workload", ["standard", "churn", "quiet", "full"]),
    extraTasks: number("extra-tasks"),
    system: word("system", ["busybox", "systemd"]),
    tricks: values.tricks,
    name: values.name,
    uuid: values.uuid,
  };
}

const progress = (line: string) => process.stderr.write(`lab: ${line}\n`);

async function boot(): Promise<void> {
  const spec = specOf();
  progress(`booting ${values.firmware ? "a machine without a system" : `Linux ${spec.kernel}`}`);
  const { kernel: _, ...firmware } = spec;
  const guest = await (values.firmware ? bootFirmwareOnly(firmware, progress) : bootGuest(spec, progress));
  process.stdout.write(
    `guest ${guest.name} (${guest.uuid}) is up on ${guest.acceleration}, as process ${guest.pid}\n` +
      `QMP: ${guest.qmp}\n` +
      `${guest.ramFile ? `RAM: ${guest.ramFile}\n` : ""}\n` +
      `Try:\n  cloudvmi local ps --qmp ${guest.qmp}\n  cloudvmi local modules --pid ${guest.pid}\n\n^C ends it.\n`,
  );
  const stop = Promise.withResolvers<void>();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => stop.resolve());
  await Promise.race([stop.promise, guest.exited.then(() => progress("the guest ended"))]);
  await guest.close();
}

async function main(): Promise<void> {
  const [command, ...rest] = positionals;
  if (values.help) {
    process.stdout.write(help);
  } else if (rest.length > 0 || command === undefined) {
    refuse(command === undefined ? "say prepare or boot" : `unexpected argument ${rest[0]}`);
  } else if (command === "prepare") {
    const kernels = await ensureLab(progress, { refresh: values.refresh });
    for (const { release, image } of Object.values(kernels)) process.stdout.write(`${release}\t${image}\n`);
  } else if (command === "boot") {
    await boot();
  } else {
    refuse(`unknown command ${command}`);
  }
}

main().catch((error: unknown) => {
  process.stderr.write(`lab: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = error instanceof RangeError ? 2 : 1;
});
