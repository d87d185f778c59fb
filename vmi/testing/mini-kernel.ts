import { fiveLevel, fourLevel, type Mmu, START_KERNEL_MAP } from "../arch/x86-64.ts";
import { PAGE_SIZE } from "../bytes/address.ts";
import type { VcpuRegisters } from "../driver/driver.ts";
import { type KallsymsEncoding, type KallsymsOrder, layKallsyms, type SymbolEntry } from "./kallsyms-writer.ts";
import { type Aggregate, type Flavour, type KernelTypes, kernelTypes } from "./kernel-types.ts";
import { naiveWalk, PageTableWriter } from "./page-table-writer.ts";
import { Ram } from "./ram.ts";
import { vmcoreinfoNote, vmcoreinfoText } from "./vmcoreinfo-writer.ts";

export interface MiniKernelOptions {
  readonly flavour?: Flavour;
  readonly mmu?: Mmu;
  readonly encoding?: KallsymsEncoding;
  readonly release?: string;
  /** Seconds since 1970. */
  readonly clock?: number;
  readonly smeMask?: bigint;
  /** How far the image is moved, a multiple of 2 MiB. */
  readonly kaslr?: bigint;
  /** False: a kernel without CONFIG_KALLSYMS. */
  readonly kallsyms?: boolean;
  /** True: a kernel without CONFIG_KALLSYMS_ALL. */
  readonly functionsOnly?: boolean;
  /** In which order the symbol tables are, and whether VMCOREINFO says where (from 6.0). */
  readonly order?: KallsymsOrder;
  readonly told?: boolean;
  /** False: a kernel without CONFIG_DEBUG_INFO_BTF. */
  readonly types?: boolean;
}

/** Two ranges with a hole in between, as a guest's RAM has below 1 MiB and around the PCI hole. */
export const MINI_RAM = [
  [0, 0x18_0000],
  [0x20_0000, 0xe0_0000],
] as const;

const IMAGE_SIZE = 1 << 21;
const IMAGE = START_KERNEL_MAP + 0x100_0000n;
const VMALLOC = 0xffff_ffff_c012_3000n;
const UPTIME = 1000;

/** Something in the made-up kernel's memory. */
export class Thing {
  readonly kernel: MiniKernel;
  readonly va: bigint;
  readonly type: Aggregate;

  constructor(kernel: MiniKernel, type: Aggregate, va: bigint) {
    this.kernel = kernel;
    this.type = type;
    this.va = va;
  }

  at(path: string): bigint {
    const member = this.type.members.get(path);
    if (member === undefined) throw new Error(`no member ${path}`);
    return this.va + BigInt(member.offset);
  }

  set(path: string, value: bigint | number | Uint8Array): this {
    if (value instanceof Uint8Array) this.kernel.write(this.at(path), value);
    else this.kernel.writeInteger(this.at(path), value, this.type.members.get(path)!.type.size);
    return this;
  }

  setAll(values: Readonly<Record<string, bigint | number | Uint8Array>>): this {
    for (const [path, value] of Object.entries(values)) this.set(path, value);
    return this;
  }
}

/**
 * A whole miniature kernel in RAM: image with symbols, types and page tables, VMCOREINFO, init_task and its lists.
 * Put processes in with testing/mini-objects.ts; `finish` makes it complete.
 */
export class MiniKernel {
  readonly ram: Ram;
  readonly types: KernelTypes;
  readonly tables: PageTableWriter;
  readonly options: Required<MiniKernelOptions>;
  readonly imageGpa: number;
  readonly imageVa: bigint;
  readonly directMap: bigint;
  readonly symbols: SymbolEntry[] = [];
  readonly initTask: Thing;
  readonly modules: bigint;
  readonly iomem: Thing;
  readonly uts: Thing;
  readonly pidNamespace: Thing;
  readonly userNamespace: Thing;
  /** Where VMCOREINFO's note is. */
  noteGpa = -1;
  #imageUsed = 0;
  #heap = 0n;
  #heapEnd = 0n;
  #vmalloc = VMALLOC;

  constructor(options: MiniKernelOptions = {}, ram = new Ram(MINI_RAM)) {
    this.options = {
      flavour: "6.13",
      mmu: fourLevel,
      encoding: "base",
      release: "6.13.0-mini",
      clock: 1_700_000_000,
      smeMask: 0n,
      kaslr: 0x1200_0000n,
      kallsyms: true,
      functionsOnly: false,
      order: "6.4",
      told: true,
      types: true,
      ...options,
    };
    const { mmu, flavour, smeMask } = this.options;
    this.ram = ram;
    this.types = kernelTypes(flavour);
    this.imageVa = IMAGE + this.options.kaslr;
    this.imageGpa = ram.take(IMAGE_SIZE, IMAGE_SIZE);
    this.directMap = mmu === fiveLevel ? 0xff11_0000_0000_0000n : 0xffff_8880_0000_0000n;
    const pgd = this.#gpaOf(this.image("swapper_pg_dir", PAGE_SIZE, "D", PAGE_SIZE));
    this.tables = new PageTableWriter(ram, mmu, { pgd, smeMask });
    this.tables.map(this.imageVa, this.imageGpa, { shift: 21 });
    for (const { gpa, length } of ram.layout.ranges) this.#mapDirectly(gpa, gpa + length);
    for (const name of ["_text", "_stext", "startup_64", "sys_init_start", "do_sys_open"]) this.image(name, 64, "T");
    this.initTask = this.global("init_task", "task_struct");
    this.modules = this.image("modules", 16, "D");
    this.iomem = this.global("iomem_resource", "resource");
    this.uts = this.global("init_uts_ns", "uts_namespace");
    this.pidNamespace = this.global("init_pid_ns", "pid_namespace").set("ns.inum", 4026531836);
    this.userNamespace = this.global("init_user_ns", "user_namespace").set("ns.inum", 4026531837);
    this.emptyList(this.modules);
    this.emptyList(this.initTask.at("tasks"));
    this.initTask.set("comm", Buffer.from("swapper/0"));
    if (this.options.encoding === "percpu")
      this.symbols.push(
        { name: "__per_cpu_start", type: "A", address: 0n },
        { name: "pcpu_hot", type: "A", address: 0x1_f000n },
      );
    this.#describeSelf();
  }

  /** The direct map: large pages where they fit. */
  #mapDirectly(start: number, end: number): void {
    for (let gpa = start; gpa < end; ) {
      const large = gpa % (1 << 21) === 0 && gpa + (1 << 21) <= end && gpa >= 1 << 22;
      this.tables.map(this.directMap + BigInt(gpa), gpa, { shift: large ? 21 : 12, executable: false });
      gpa += large ? 1 << 21 : PAGE_SIZE;
    }
  }

  #describeSelf(): void {
    const { release, clock, flavour } = this.options;
    const members = { sysname: "Linux", nodename: "mini", release, version: "#1 SMP", machine: "x86_64" };
    for (const [member, text] of Object.entries(members)) this.uts.set(`name.${member}`, Buffer.from(`${text}\0`));
    this.uts.set("ns.inum", 4026531838);
    const banner = Buffer.from(`Linux version ${release} (made up) #1 SMP\n\0`);
    this.write(this.image("linux_banner", banner.length, "R"), banner);
    const commandLine = Buffer.from("root=/dev/vda quiet\0");
    const commandLineAt = this.allocate(commandLine.length);
    this.write(commandLineAt, commandLine);
    this.writeInteger(this.image("saved_command_line", 8, "D"), commandLineAt, 8);
    const keeper = this.types.of.timekeeper!;
    const start = flavour === "6.1" ? 8 : this.types.of.tk_data!.members.get("timekeeper")!.offset;
    const core = this.image("tk_core", start + keeper.size, "b");
    new Thing(this, keeper, core + BigInt(start)).setAll({
      xtime_sec: clock,
      offs_real: (BigInt(clock) - BigInt(UPTIME)) * 1_000_000_000n,
      offs_boot: 0,
      "tkr_mono.base": BigInt(UPTIME) * 1_000_000_000n,
      "tkr_mono.shift": 8,
      "tkr_mono.xtime_nsec": 500_000_000n << 8n,
    });
  }

  /** Room in the image, under a symbol's name. */
  image(name: string, length: number, type = "D", alignment = 64): bigint {
    this.#imageUsed = Math.ceil(this.#imageUsed / alignment) * alignment;
    const address = this.imageVa + BigInt(this.#imageUsed);
    this.#imageUsed += Math.max(length, 1);
    if (this.#imageUsed > IMAGE_SIZE) throw new Error("the made-up image is full");
    if (name !== "") this.symbols.push({ name, type, address });
    return address;
  }

  global(name: string, type: string): Thing {
    const aggregate = this.types.of[type]!;
    return new Thing(this, aggregate, this.image(name, aggregate.size));
  }

  symbol(name: string): bigint {
    return this.symbols.find((symbol) => symbol.name === name)!.address;
  }

  /** Zeroed room in the direct map, one after the other: what is allocated here may cross a page's border. */
  allocate(length: number): bigint {
    const size = BigInt(Math.ceil(length / 8) * 8);
    if (this.#heap + size > this.#heapEnd) {
      const chunk = Math.max(16 * PAGE_SIZE, length);
      this.#heap = this.directMap + BigInt(this.ram.take(chunk));
      this.#heapEnd = this.#heap + BigInt(Math.ceil(chunk / PAGE_SIZE) * PAGE_SIZE);
    }
    this.#heap += size;
    return this.#heap - size;
  }

  make(type: string): Thing {
    const aggregate = this.types.of[type]!;
    return new Thing(this, aggregate, this.allocate(aggregate.size));
  }

  /** In pages that are neighbours in virtual memory only, crossing from one into the next. */
  makeScattered(type: string): Thing {
    const aggregate = this.types.of[type]!;
    const pages = Math.ceil(aggregate.size / PAGE_SIZE) + 1;
    const start = this.#vmalloc;
    for (let i = pages - 1; i >= 0; i--) this.tables.map(start + BigInt(i * PAGE_SIZE), this.ram.take());
    this.#vmalloc += BigInt((pages + 1) * PAGE_SIZE);
    return new Thing(this, aggregate, start + BigInt(PAGE_SIZE - 40));
  }

  string(text: string | Uint8Array): bigint {
    const bytes = Buffer.concat([typeof text === "string" ? Buffer.from(text, "latin1") : text, Buffer.alloc(1)]);
    const at = this.allocate(bytes.length);
    this.write(at, bytes);
    return at;
  }

  write(va: bigint, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      const at = va + BigInt(done);
      const piece = bytes.subarray(done, done + PAGE_SIZE - Number(at & BigInt(PAGE_SIZE - 1)));
      this.ram.bytes.set(piece, this.#gpaOf(at));
      done += piece.length;
    }
  }

  writeInteger(va: bigint, value: bigint | number, size: number): void {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)));
    this.write(va, bytes.subarray(0, size));
  }

  readPointer(va: bigint): bigint {
    return this.read(va, 8).readBigUInt64LE();
  }

  read(va: bigint, length: number): Buffer {
    return Buffer.from(Array.from({ length }, (_, i) => this.ram.bytes[this.#gpaOf(va + BigInt(i))]!));
  }

  #gpaOf(va: bigint): number {
    const inImage = va - this.imageVa;
    if (inImage >= 0n && inImage < BigInt(IMAGE_SIZE)) return this.imageGpa + Number(inImage);
    const found = naiveWalk(this.tables, va);
    if (found === undefined) throw new Error(`0x${va.toString(16)} is not mapped`);
    return Number(found.gpa);
  }

  /** Where something in the kernel's memory is. */
  gpa(va: bigint): number {
    return this.#gpaOf(va);
  }

  emptyList(head: bigint): void {
    this.writeInteger(head, head, 8);
    this.writeInteger(head + 8n, head, 8);
  }

  /** list_add_tail() */
  listAdd(head: bigint, node: bigint): void {
    const last = this.readPointer(head + 8n);
    this.writeInteger(node, head, 8);
    this.writeInteger(node + 8n, last, 8);
    this.writeInteger(last, node, 8);
    this.writeInteger(head + 8n, node, 8);
  }

  physBase(): bigint {
    return BigInt(this.imageGpa) - (this.imageVa - START_KERNEL_MAP);
  }

  /** What VMCOREINFO says; `finish` writes it, with what is given here instead. */
  vmcoreinfo(): Record<string, string> {
    const { release, mmu, smeMask } = this.options;
    const fields: Record<string, string> = {
      OSRELEASE: release,
      "BUILD-ID": "0123456789abcdef0123456789abcdef01234567",
      PAGESIZE: "4096",
      "OFFSET(uts_namespace.name)": "0",
      "NUMBER(phys_base)": String(this.physBase()),
      "NUMBER(pgtable_l5_enabled)": mmu === fiveLevel ? "1" : "0",
      "NUMBER(sme_mask)": String(smeMask),
      KERNELOFFSET: this.options.kaslr.toString(16),
    };
    for (const { name, address } of this.symbols) {
      if (/^(_stext|swapper_pg_dir|init_uts_ns|kallsyms_\w+)$/.test(name))
        fields[`SYMBOL(${name})`] = address.toString(16);
    }
    return fields;
  }

  /** Writes types, symbols and the note. */
  finish(changed: Readonly<Record<string, string>> = {}): this {
    for (const name of ["_etext", "_end"]) this.image(name, 0, "T");
    const types = this.types.btf.bytes();
    if (this.options.types) {
      this.write(this.image("__start_BTF", types.length, "R"), types);
      this.image("__stop_BTF", 0, "R", 1);
    }
    const sorted = this.symbols.sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
    const listed = this.options.functionsOnly ? sorted.filter(({ type }) => /t/i.test(type)) : [...sorted];
    if (this.options.kallsyms) this.#putKallsyms(listed);
    this.noteGpa = this.ram.take();
    this.writeNote(changed);
    return this;
  }

  #putKallsyms(listed: readonly SymbolEntry[]): void {
    const { encoding, order, told } = this.options;
    const form = { encoding, order, shortLengths: order === "4.20" };
    const at = this.image("", layKallsyms(listed, form, 0n).bytes.length, "R", PAGE_SIZE);
    const { bytes, places } = layKallsyms(listed, form, at);
    this.write(at, bytes);
    if (told) for (const [name, address] of places) this.symbols.push({ name, type: "R", address });
  }

  writeNote(changed: Readonly<Record<string, string>> = {}): void {
    const note = vmcoreinfoNote(vmcoreinfoText({ ...this.vmcoreinfo(), ...changed }));
    this.ram.bytes.fill(0, this.noteGpa, this.noteGpa + PAGE_SIZE);
    this.ram.bytes.set(note, this.noteGpa);
  }

  /** A vCPU that runs this kernel. */
  registers(cr3 = BigInt(this.tables.pgd)): VcpuRegisters {
    const cr4 = this.options.mmu === fiveLevel ? 0x1020n : 0x20n;
    return { index: 0, registers: { cr0: 0x8005_0033n, cr3, cr4 } };
  }
}
