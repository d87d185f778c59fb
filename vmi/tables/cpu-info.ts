import { GuestError } from "../errors.ts";
import { CpuFlagNames, clockKhz, readCpus } from "../linux/cpu-info.ts";
import { dmiProcessors } from "../linux/dmi.ts";
import { CELL } from "./columns.ts";
import { defineTable, integer, text } from "./table.ts";

const DMI = "; of its package, by the firmware's table (SMBIOS); unsupported where that does not tell";

/** One row a CPU that has been started: /proc/cpuinfo. */
export const cpuInfo = defineTable({
  name: "cpu_info",
  description: "Processors as the guest's kernel has found them: what the hypervisor shows it",
  columns: {
    device_id: text("CPU and its number"),
    model: text("Name of the model"),
    manufacturer: text("Vendor's identification, such as GenuineIntel"),
    processor_type: integer(`Kind of processor: 3 central${DMI}`),
    cpu_status: integer(`0x41 socket in use and processor enabled; 0x40 in use, state unknown${DMI}`),
    number_of_cores: integer("Cores of its package that were started"),
    logical_processors: integer("CPUs of its package that are online"),
    address_width: integer("Bits of its registers: 64"),
    current_clock_speed: integer("MHz that the kernel took it to have at boot; it may run at another rate now"),
    max_clock_speed: integer(`MHz that it may have at most${DMI}`),
    socket_designation: text(`Where its package is${DMI}`),
    cpu: integer("Number of the CPU"),
    online: integer("1 when it is in use"),
    family: integer("cpu family"),
    model_number: integer("model"),
    stepping: integer("stepping"),
    microcode: integer("Revision of the microcode"),
    cache_size: integer("KiB of its last cache"),
    physical_bits: integer("Bits of a physical address"),
    virtual_bits: integer("Bits of a virtual address"),
    package: integer("physical id: the package that it is in"),
    core: integer("core id: the core of the package"),
    apic: integer("apicid"),
    loops_per_jiffy: integer("Turns of the kernel's delay loop in a tick; bogomips is this times HZ / 500000"),
    flags: text("What it can, of what the kernel has names for, separated by spaces"),
    bugs: text("Defects that the kernel works around, separated by spaces"),
  },
  cost: "constant",
  reads: [
    "cpu_info (per CPU; boot_cpu_data without SMP), cpuinfo_x86 (topo from 6.7: 02fb601d27a7)",
    "x86_cap_flags, x86_bug_flags, __cpu_online_mask, cpu_khz",
    "dmi_base, dmi_len",
  ],
  examples: [
    "SELECT cpu, model, microcode FROM cpu_info",
    "SELECT cpu FROM cpu_info WHERE ' ' || flags || ' ' NOT LIKE '% smep %'",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const found = readCpus(kernel);
    if (found === undefined) {
      throw new GuestError("unsupported-kernel", `kernel ${kernel.release}: where it describes its CPUs is not known`);
    }
    if (!found.complete) context.incomplete("a CPU's description could not be read");
    const names = new CpuFlagNames(kernel);
    const khz = clockKhz(kernel);
    const wantsDmi = out.processor_type ?? out.cpu_status ?? out.max_clock_speed ?? out.socket_designation;
    const packages = wantsDmi && dmiProcessors(kernel, budget);
    const online = new Map<number, number>();
    for (const cpu of found.cpus) if (cpu.online) online.set(cpu.package, (online.get(cpu.package) ?? 0) + 1);
    for (const cpu of found.cpus) {
      budget.spend(ROW_COST);
      out.device_id?.push(`CPU${cpu.cpu}`);
      out.model?.pushOr(cpu.modelName, CELL.unreadable);
      out.manufacturer?.pushOr(cpu.vendor, CELL.unreadable);
      // The firmware counts packages as their numbers go.
      const told = packages?.[cpu.package];
      out.processor_type?.pushOr(told?.type, CELL.unsupported);
      out.cpu_status?.pushOr(told?.status, CELL.unsupported);
      out.max_clock_speed?.pushOr(told?.maxMhz || undefined, CELL.unsupported);
      out.socket_designation?.pushOr(told && Buffer.from(told.socket, "latin1"), CELL.unsupported);
      out.number_of_cores?.push(cpu.cores);
      out.logical_processors?.push(online.get(cpu.package) ?? 0);
      out.address_width?.push(64);
      out.current_clock_speed?.pushOr(khz && Math.round(khz / 1000), CELL.unsupported);
      out.cpu?.push(cpu.cpu);
      out.online?.push(cpu.online ? 1 : 0);
      out.family?.push(cpu.family);
      out.model_number?.push(cpu.model);
      out.stepping?.push(cpu.stepping);
      out.microcode?.push(cpu.microcode);
      out.cache_size?.push(cpu.cacheKiB);
      out.physical_bits?.push(cpu.physicalBits);
      out.virtual_bits?.push(cpu.virtualBits);
      out.package?.push(cpu.package);
      out.core?.push(cpu.core);
      out.apic?.push(cpu.apic);
      out.loops_per_jiffy?.pushOr(cpu.loopsPerJiffy, CELL.unreadable);
      out.flags?.pushOr(out.flags && names.flags(cpu), CELL.unsupported);
      out.bugs?.pushOr(out.bugs && names.bugs(cpu), CELL.unsupported);
      if (!context.row()) return;
    }
  },
});

/** Names of some two hundred flags. */
const ROW_COST = 64;
