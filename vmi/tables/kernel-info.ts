import { utsNamespace } from "../linux/nsproxy.ts";
import { latin1, plus, readCString, readPointer } from "../linux/read.ts";
import { clockOf } from "../linux/timekeeping.ts";
import { symbol } from "../symbols/specs.ts";
import { CELL } from "./columns.ts";
import { defineTable, integer, text } from "./table.ts";

const savedCommandLine = symbol("?saved_command_line");
const linuxBanner = symbol("linux_banner");
const initUtsNs = symbol("init_uts_ns");

const MAX_COMMAND_LINE = 4096;
const MAX_BANNER = 512;
/** Members of struct new_utsname are 65 bytes each (include/uapi/linux/utsname.h): sysname, nodename, release, version, machine. */
const UTS_LEN = 65;

/** One row: which kernel runs, how it was started, and since when. */
export const kernelInfo = defineTable({
  name: "kernel_info",
  description: "The running kernel",
  columns: {
    version: text("Kernel release, as uname -r gives it"),
    arguments: text("Kernel command line, all of it"),
    path: text("Where the boot loader had the kernel from (BOOT_IMAGE of the command line)"),
    device: text("Device of the root file system (root of the command line)"),
    build: text("Build version, as uname -v gives it"),
    banner: text("The text of /proc/version"),
    build_id: text("GNU build id of the kernel image"),
    hostname: text("Host name in the initial UTS namespace"),
    machine: text("Architecture, as uname -m gives it"),
    boot_time: integer("When the guest booted, seconds since 1970 by its own clock"),
    uptime: integer("Seconds since boot, as of the guest's last tick"),
    time: integer("The guest's clock, seconds since 1970, as of its last tick"),
    kaslr_offset: text("How far the kernel image was moved"),
    phys_base: text("phys_base: physical address of the image less its unrandomised address"),
    paging: text("4-level or 5-level"),
  },
  cost: "constant",
  reads: ["init_uts_ns", "saved_command_line", "tk_core"],
  examples: ["SELECT version, arguments, uptime FROM kernel_info"],
  generate: (context, out) => {
    const { kernel } = context;
    const uts = plus(kernel.place(initUtsNs), kernel.layout(utsNamespace).name);
    const utsMember = (index: number) => readCString(kernel.space, plus(uts, index * UTS_LEN), UTS_LEN);
    const commandLine = kernel.optionalPlace(savedCommandLine);
    const commandLineAt = commandLine && readPointer(kernel.space, commandLine);
    const clock = clockOf(kernel);
    out.version?.pushOr(utsMember(2), CELL.unreadable);
    const line = commandLineAt && readCString(kernel.space, commandLineAt, MAX_COMMAND_LINE);
    out.arguments?.pushOr(line, CELL.unreadable);
    for (const [column, name] of [
      [out.path, "BOOT_IMAGE="],
      [out.device, "root="],
    ] as const) {
      column?.pushOr(line && argumentOf(line, name), line === undefined ? CELL.unreadable : CELL.notApplicable);
    }
    out.build?.pushOr(utsMember(3), CELL.unreadable);
    const banner = readCString(kernel.space, kernel.place(linuxBanner), MAX_BANNER);
    out.banner?.pushOr(banner?.at(-1) === 0x0a ? banner.subarray(0, -1) : banner, CELL.unreadable);
    out.build_id?.push(kernel.buildId);
    out.hostname?.pushOr(utsMember(1), CELL.unreadable);
    out.machine?.pushOr(utsMember(4), CELL.unreadable);
    out.boot_time?.pushOr(clock && Math.floor(clock.bootNanoseconds / 1e9), CELL.unreadable);
    out.uptime?.pushOr(clock && Math.floor(clock.uptimeNanoseconds / 1e9), CELL.unreadable);
    out.time?.pushOr(clock?.realSeconds, CELL.unreadable);
    out.kaslr_offset?.push(`0x${kernel.kaslrOffset.toString(16)}`);
    out.phys_base?.push(
      kernel.physBase < 0n ? `-0x${(-kernel.physBase).toString(16)}` : `0x${kernel.physBase.toString(16)}`,
    );
    out.paging?.push(kernel.space.mmu.name);
    context.row();
  },
});

/** What follows a name on the command line, the last where there are several; undefined where there is none. */
function argumentOf(line: Uint8Array, name: string): Uint8Array | undefined {
  const found = latin1(line)
    .split(" ")
    .findLast((word) => word.startsWith(name));
  return found === undefined ? undefined : Buffer.from(found.slice(name.length), "latin1");
}
