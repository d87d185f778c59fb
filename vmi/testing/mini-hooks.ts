import type { MiniKernel, Thing } from "./mini-kernel.ts";

/** Addresses of what a made-up guest has of modules' symbols, chains, timers and workqueues. */
export interface MiniHooks {
  /** Text of the module, of two pages; what is at its start, and 0x40 behind. */
  readonly text: bigint;
  readonly callbacks: readonly bigint[];
  readonly timer: bigint;
  readonly delayed: bigint;
  readonly high: bigint;
}

const TEXT_PAGES = 2;
/** Elf64_Sym */
const SYM_SIZE = 24;
const IDT_TYPE = 0x8e;

/** Gives a module text, symbols, parameters and sections, and the kernel what calls into them. */
export function addHooks(kernel: MiniKernel, module: Thing): MiniHooks {
  const { of } = kernel.types;
  const text = 0xffff_ffff_c100_0000n;
  for (let page = 0; page < TEXT_PAGES; page++) kernel.tables.map(text + BigInt(page * 4096), kernel.ram.take());
  kernel.write(text, Buffer.alloc(TEXT_PAGES * 4096, 0x90));
  if (of.module_layout)
    kernel.writeInteger(module.at("core_layout") + BigInt(of.module_layout.members.get("text_size")!.offset), 4096, 4);
  addSymbols(kernel, module, [
    { name: "", value: 0n, type: "U", section: 0 },
    { name: "alpha_init", value: text, type: "t" },
    { name: "alpha_call", value: text + 0x40n, type: "T" },
    { name: "alpha_alias", value: text + 0x40n, type: "t" },
    { name: "printk", value: 0n, type: "U", section: 0 },
    { name: ".L7", value: text + 0x80n, type: "t" },
  ]);
  const image = kernel.image("chain_callback", 64, "t");
  const callbacks = [image, text + 0x40n, text + 0x90n];
  addParameters(kernel, module);
  addSections(kernel, module, [
    [".text", text],
    [".init.text", text + 0x100_0000n],
  ]);
  addChain(kernel, callbacks);
  addInterrupts(kernel, image);
  return { text, callbacks, ...addTimers(kernel, text), high: addHighTimers(kernel, image) };
}

interface MiniSymbol {
  readonly name: string;
  readonly value: bigint;
  readonly type: string;
  readonly section?: number;
}

function addSymbols(kernel: MiniKernel, module: Thing, symbols: readonly MiniSymbol[]): void {
  const symtab = Buffer.alloc(symbols.length * SYM_SIZE);
  let names = "";
  symbols.forEach(({ name, value, section = 1 }, i) => {
    symtab.writeUInt32LE(names.length, i * SYM_SIZE);
    symtab.writeUInt16LE(section, i * SYM_SIZE + 6);
    symtab.writeBigUInt64LE(value, i * SYM_SIZE + 8);
    names += `${name}\0`;
  });
  const put = (bytes: Buffer) => {
    const at = kernel.allocate(bytes.length);
    kernel.write(at, bytes);
    return at;
  };
  const kallsyms = kernel.make("mod_kallsyms").setAll({
    symtab: put(symtab),
    num_symtab: symbols.length,
    strtab: put(Buffer.from(names)),
    typetab: put(Buffer.from(symbols.map(({ type }) => type).join(""))),
  });
  // What alpha exports: names and values as distances from their own places.
  const exported = kernel.make("kernel_symbol");
  const near = (path: string, target: bigint) => exported.set(path, target - exported.at(path));
  near("name_offset", kernel.string("alpha_alias"));
  const value = symbols.find(({ name }) => name === "alpha_alias")!.value;
  // Too far for 32 bits from the direct map: an export that no symbol matches.
  exported.set("value_offset", BigInt.asIntN(32, value));
  module.setAll({ kallsyms: kallsyms.va, syms: exported.va, num_syms: 1 });
}

function addParameters(kernel: MiniKernel, module: Thing): void {
  const ops = (kind: string) => kernel.image(kind, 32, "D");
  const number = kernel.allocate(8);
  kernel.writeInteger(number, -5n, 8);
  const [int, bool, charp, array, string] = ["int", "bool", "charp"]
    .map((kind) => ops(`param_ops_${kind}`))
    .concat(ops("param_array_ops"), ops("param_ops_string")) as [bigint, bigint, bigint, bigint, bigint];
  const pointer = kernel.allocate(8);
  kernel.writeInteger(pointer, kernel.string("text"), 8);
  const elements = kernel.allocate(16);
  [7, 8, 9].forEach((value, i) => {
    kernel.writeInteger(elements + BigInt(i * 4), value, 4);
  });
  const list = kernel.make("kparam_array").setAll({ max: 3, elemsize: 4, ops: int, elem: elements });
  const chars = kernel.make("kparam_string").setAll({ maxlen: 16, string: kernel.string("chars") });
  const parameters = [
    ["number", int, number, 0o644],
    ["switch", bool, number, 0o444],
    ["words", charp, pointer, 0],
    ["list", array, list.va, 0o600],
    ["chars", string, chars.va, 0o444],
    ["own", 0x1234n, number, 0o444],
  ] as const;
  const type = kernel.types.of.kernel_param!;
  const at = kernel.allocate(parameters.length * type.size);
  parameters.forEach(([name, operations, arg, perm], i) => {
    const put = (member: string, value: bigint | number, size: number) => {
      kernel.writeInteger(at + BigInt(i * type.size + type.members.get(member)!.offset), value, size);
    };
    put("name", kernel.string(name), 8);
    put("ops", operations, 8);
    put("arg", arg, 8);
    put("perm", perm, 2);
  });
  module.setAll({ kp: at, num_kp: parameters.length });
}

function addSections(kernel: MiniKernel, module: Thing, sections: readonly (readonly [string, bigint])[]): void {
  const { module_sect_attr: old, bin_attribute: bin, module_sect_attrs: attrs } = kernel.types.of;
  const entry = old ?? bin!;
  const start = attrs!.members.get("attrs")!.offset;
  const at = kernel.allocate(start + sections.length * entry.size);
  const pointers = kernel.allocate((sections.length + 1) * 8);
  sections.forEach(([name, address], i) => {
    const put = (member: string, value: bigint) => {
      kernel.writeInteger(at + BigInt(start + i * entry.size + entry.members.get(member)!.offset), value, 8);
    };
    put(old ? "battr.attr.name" : "attr.name", kernel.string(name));
    put(old ? "address" : "private", address);
    kernel.writeInteger(pointers + BigInt(i * 8), at + BigInt(start + i * entry.size), 8);
  });
  const put = (member: string, value: bigint, size: number) => {
    kernel.writeInteger(at + BigInt(attrs!.members.get(member)!.offset), value, size);
  };
  put("grp.bin_attrs", pointers, 8);
  if (old) put("nsections", BigInt(sections.length), 4);
  module.set("sect_attrs", at);
}

function addChain(kernel: MiniKernel, callbacks: readonly bigint[]): void {
  let next = 0n;
  callbacks.toReversed().forEach((callback, i) => {
    next = kernel.make("notifier_block").setAll({ notifier_call: callback, next, priority: i * 10 - 10 }).va;
  });
  kernel.global("netdev_chain", "raw_notifier_head").set("head", next);
}

function addInterrupts(kernel: MiniKernel, handler: bigint): void {
  const table = kernel.image("idt_table", 4096, "b", 4096);
  for (let vector = 0; vector < 256; vector++) {
    const gate = table + BigInt(vector * 16);
    const address = handler + BigInt(vector === 3 ? 0 : vector % 8);
    kernel.writeInteger(gate, address & 0xffffn, 2);
    kernel.writeInteger(gate + 2n, 16, 2);
    kernel.writeInteger(gate + 4n, vector === 2 ? 2 : 0, 1);
    kernel.writeInteger(gate + 5n, IDT_TYPE | (vector === 3 ? 0x60 : 0), 1);
    kernel.writeInteger(gate + 6n, (address >> 16n) & 0xffffn, 2);
    kernel.writeInteger(gate + 8n, address >> 32n, 4);
  }
}

/** A timer and a delayed work in one bucket, and a workqueue. */
function addTimers(kernel: MiniKernel, called: bigint): { timer: bigint; delayed: bigint } {
  const base = kernel.global("timer_bases", "timer_base");
  const delayedTimer = kernel.image("delayed_work_timer_fn", 64, "t");
  const timer = kernel.make("timer_list").setAll({ expires: 4_294_900_000, function: called });
  const delayed = kernel.make("delayed_work").setAll({
    "work.func": called,
    "timer.expires": 4_294_900_001,
    "timer.function": delayedTimer,
  });
  const bucket = base.at("vectors") + 8n * 5n;
  kernel.writeInteger(bucket, timer.va, 8);
  timer.setAll({ "entry.next": delayed.at("timer.entry.next"), "entry.pprev": bucket });
  delayed.set("timer.entry.pprev", timer.at("entry.next"));
  const queues = kernel.image("workqueues", 16);
  kernel.emptyList(queues);
  const queue = kernel.make("workqueue_struct").setAll({ name: Buffer.from("events\0"), flags: 8 });
  kernel.emptyList(queue.at("pwqs"));
  kernel.listAdd(queues, queue.at("list"));
  return { timer: timer.va, delayed: delayed.va };
}

/** One high-resolution timer of the monotonic clock. */
function addHighTimers(kernel: MiniKernel, called: bigint): bigint {
  const bases = kernel.global("hrtimer_bases", "hrtimer_cpu_base");
  const type = kernel.types.of.hrtimer_clock_base!;
  const at = (i: number, member: string) =>
    bases.at("clock_base") + BigInt(i * type.size + type.members.get(member)!.offset);
  for (let i = 0; i < 8; i++) {
    kernel.writeInteger(at(i, "cpu_base"), bases.va, 8);
    kernel.writeInteger(at(i, "clockid"), [1, 0, 7, 11][i % 4]!, 4);
  }
  const timer = kernel
    .make("hrtimer")
    .setAll({ "node.expires": 2_000_000_000, _softexpires: 1_999_000_000, function: called });
  kernel.writeInteger(at(0, "active"), timer.va, 8);
  return timer.va;
}
