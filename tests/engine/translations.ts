// Compares translations and memory with QEMU's own, while the guest is paused.
import assert from "node:assert/strict";
import { Budget, type Guest, type Space } from "../../vmi/index.ts";
import { userSpace } from "../../vmi/linux/mm.ts";
import { readPointer } from "../../vmi/linux/read.ts";
import { taskStruct } from "../../vmi/linux/task-struct.ts";
import { findProcess } from "../../vmi/linux/tasks.ts";
import { variable } from "./kernel.ts";
import { randomOf, read, type Subject, textIn } from "./support.ts";

const PAGE = 4096n;
/** The CR3 bits of PTI's user half and of PCID. */
const CR3_LOW = 0x1fffn;

/** A virtual area of the guest: first address, and behind the last. */
export interface Area {
  readonly start: bigint;
  readonly end: bigint;
}

/** Addresses all over an area: both ends of its pages, and within them. */
export function sample(area: Area, count: number, random: () => number): bigint[] {
  const addresses = [area.start, area.end - 1n];
  for (let i = 2; i < count; i++) {
    addresses.push(area.start + BigInt(Math.floor(random() * Number(area.end - area.start))));
  }
  return addresses;
}

/** Runs `work` with the guest paused at an instant that `suits`; it must come up within some tries. */
export async function pausedWhen<T>(
  subject: Subject,
  suits: () => Promise<boolean>,
  work: () => Promise<T>,
): Promise<T> {
  for (let attempt = 0; attempt < 200; attempt++) {
    await subject.pause();
    try {
      if (await suits()) return await work();
    } finally {
      await subject.resume();
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error("the guest was never caught as wanted");
}

/** The vCPU's translation of an address, by QEMU. */
async function gva2gpa(subject: Subject, vcpu: number, address: bigint): Promise<number | undefined> {
  const text = await command(subject, vcpu, `gva2gpa 0x${address.toString(16)}`);
  const found = /^gpa: 0x([0-9a-f]+)/.exec(text)?.[1] ?? /^gpa: ([0-9a-f]+)/.exec(text)?.[1];
  if (found === undefined) assert.match(text, /Unmapped/);
  return found === undefined ? undefined : Number.parseInt(found, 16);
}

async function command(subject: Subject, vcpu: number, line: string): Promise<string> {
  return String(await subject.qmp.execute("human-monitor-command", { "command-line": line, "cpu-index": vcpu }));
}

export interface Counts {
  readonly mapped: number;
  readonly unmapped: number;
  readonly sizes: Map<number, number>;
}

/** Every address by the engine and by QEMU. The guest must be paused. */
export async function compareTranslations(
  subject: Subject,
  guest: Guest,
  vcpu: number,
  space: Exclude<Space, "physical">,
  addresses: readonly bigint[],
): Promise<Counts> {
  const found = guest.translate(addresses.map((address) => ({ space, address })));
  const sizes = new Map<number, number>();
  let [mapped, unmapped] = [0, 0];
  for (const [i, address] of addresses.entries()) {
    const result = found[i]!;
    const expected = await gva2gpa(subject, vcpu, address);
    assert.equal(result.mapped ? result.gpa : undefined, expected, `0x${address.toString(16)}`);
    if (result.mapped) sizes.set(result.pageSize, (sizes.get(result.pageSize) ?? 0) + 1);
    if (result.mapped) mapped++;
    else unmapped++;
  }
  return { mapped, unmapped, sizes };
}

/** Words of memory by the engine and by QEMU's xp (physical) or x (virtual). Returns the bytes compared. */
export async function compareMemory(
  subject: Subject,
  guest: Guest,
  vcpu: number,
  space: Space,
  addresses: readonly bigint[],
): Promise<number> {
  const WORDS = 40;
  let compared = 0;
  const results = guest.read(addresses.map((address) => ({ space, address, length: WORDS * 8 })));
  for (const [i, address] of addresses.entries()) {
    const verb = space === "physical" ? "xp" : "x";
    const text = await command(subject, vcpu, `${verb} /${WORDS}xg 0x${address.toString(16)}`);
    const words = [...text.matchAll(/ 0x([0-9a-f]{16})\b/g)].map(([, word]) => BigInt(`0x${word}`));
    const bytes = Buffer.alloc(words.length * 8);
    for (const [at, word] of words.entries()) bytes.writeBigUInt64LE(word, at * 8);
    const { bytes: ours, error } = results[i]!;
    if (error === "") assert.equal(bytes.length, ours.length, text);
    else await assertNoRam(subject, vcpu, space, address + BigInt(ours.length));
    const length = Math.min(bytes.length, ours.length);
    assert.ok(bytes.subarray(0, length).equals(ours.subarray(0, length)), `${verb} 0x${address.toString(16)}`);
    compared += length;
  }
  return compared;
}

/** QEMU also reads what is no RAM, such as a device's registers; the engine must stop there, and only there. */
async function assertNoRam(subject: Subject, vcpu: number, space: Space, address: bigint): Promise<void> {
  const gpa = space === "physical" ? Number(address) : await gva2gpa(subject, vcpu, address);
  const isRam = gpa !== undefined && subject.memory.contains(gpa, 1);
  assert.ok(!isRam, `0x${address.toString(16)} is RAM at ${gpa?.toString(16)}, and was not read`);
}

/** Addresses of the kernel's, of every kind that there is. */
export async function kernelAddresses(subject: Subject, guest: Guest): Promise<bigint[]> {
  const random = randomOf(11);
  const at = (name: string) => guest.symbols([name])[0]!.address;
  const direct = variable(guest, "page_offset_base");
  const { ranges } = subject.memory.layout;
  const last = ranges.at(-1)!;
  const areas: [Area, number][] = [
    [{ start: at("_stext"), end: at("_etext") }, 60],
    [{ start: at("_sdata"), end: at("_edata") }, 40],
    [{ start: at("__bss_start"), end: at("__bss_stop") }, 20],
    // The direct map, over the hole below 4 GiB and past the end of RAM.
    ...ranges.map(({ gpa, length }): [Area, number] => [
      { start: direct + BigInt(gpa), end: direct + BigInt(gpa + length) },
      60,
    ]),
    [
      { start: direct + BigInt(last.gpa + last.length), end: direct + BigInt(last.gpa + last.length) + (1n << 40n) },
      20,
    ],
    [{ start: variable(guest, "vmemmap_base"), end: variable(guest, "vmemmap_base") + (1n << 26n) }, 30],
    [{ start: variable(guest, "vmalloc_base"), end: variable(guest, "vmalloc_base") + (1n << 26n) }, 40],
    // Around the image, where KASLR has not put it.
    [{ start: 0xffff_ffff_8000_0000n, end: 0xffff_ffff_ffff_ffffn }, 40],
    [{ start: 0xffff_8000_0000_0000n, end: 0xffff_ffff_ffff_ffffn }, 40],
  ];
  const addresses = areas.flatMap(([area, count]) => sample(area, count, random));
  for (const module of read(guest, "kernel_modules", { columns: ["address"] })) {
    const start = BigInt(textIn(module, "address"));
    addresses.push(...sample({ start, end: start + 5n * PAGE }, 6, random));
  }
  for (let gpa = 0; gpa < last.gpa + last.length; gpa += 2 ** 30) addresses.push(direct + BigInt(gpa + 0x1234_5678));
  const offsets = at("__per_cpu_offset");
  const [perCpu] = guest.read([{ space: "kernel", address: offsets, length: 8 * subject.lab.spec.vcpus }]);
  for (let vcpu = 0; vcpu < subject.lab.spec.vcpus; vcpu++) {
    const start = Buffer.from(perCpu!.bytes).readBigUInt64LE(vcpu * 8);
    addresses.push(...sample({ start, end: start + 40n * PAGE }, 10, random));
  }
  for (const { registers } of await subject.registers()) {
    for (const name of ["idtr_base", "gdtr_base", "tr_base", "gs_base", "rsp"]) addresses.push(registers[name]!);
  }
  // Not canonical with any paging, and canonical with 5 levels only.
  return [...addresses, 0x8000_0000_0000_0000n, 0x0100_0000_0000_0000n, 0xff11_0000_0000_0000n, 0x0000_8000_0000_0000n];
}

/** The vCPU that has the kernel's half of the address space: any without PTI, with it one that runs the kernel. */
export async function kernelVcpu(subject: Subject): Promise<number> {
  const registers = await subject.registers();
  return registers.findIndex(({ registers: { cs = 0n } }) => (cs & 3n) === 0n);
}

/** The vCPU whose page tables are those of a process; -1 when none has them now. */
export async function vcpuOf(subject: Subject, guest: Guest, pid: number): Promise<number> {
  guest.kernel.dropCaches();
  const task = findProcess(guest.kernel, pid, new Budget());
  assert.ok(task, `no process ${pid}`);
  const mm = readPointer(guest.kernel.space, task, guest.kernel.layout(taskStruct).mm);
  const pgd = mm && userSpace(guest.kernel, mm)?.pgd;
  assert.ok(pgd !== undefined, `process ${pid} has no page tables`);
  const registers = await subject.registers();
  return registers.findIndex(({ registers: { cr3 = 0n } }) => Number(cr3 & ~CR3_LOW) === pgd);
}

/** The mapped areas of a process, by the guest. */
export async function userAreas(subject: Subject, pid: number): Promise<Area[]> {
  const text = await subject.lab.exec(`cat /proc/${pid}/maps`);
  return [...text.matchAll(/^([0-9a-f]+)-([0-9a-f]+) /gm)].map(([, start, end]) => ({
    start: BigInt(`0x${start}`),
    end: BigInt(`0x${end}`),
  }));
}

/** All pages of small areas, many of large ones, and what lies around them. */
export function userAddresses(areas: readonly Area[]): bigint[] {
  const random = randomOf(13);
  return [
    ...areas.flatMap(({ start, end }) => {
      const pages = (end - start) / PAGE;
      if (pages > 60n) return sample({ start, end }, 80, random);
      return Array.from({ length: Number(pages) }, (_, page) => start + BigInt(page) * PAGE + BigInt(page % 4096));
    }),
    ...areas.flatMap(({ start, end }) => [start - 1n, end]),
    0n,
    0x0000_7fff_ffff_ffffn,
  ];
}
