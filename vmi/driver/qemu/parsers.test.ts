import assert from "node:assert/strict";
import { test } from "node:test";
import { parseCommandLine } from "./command-line.ts";
import { guessLayout } from "./layout-guess.ts";
import { parseMtree } from "./mtree.ts";
import { parseMaps } from "./process.ts";
import { parseRegisters } from "./registers.ts";

const mtree = `FlatView #0
 AS "I/O", root: io
 Root memory region: io
  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan

FlatView #1
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-000000000009ffff (prio 0, ram): ram0 KVM
  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem
  00000000000c0000-00000000000c2fff (prio 0, ram): ram0 @00000000000c0000 KVM
  00000000000c3000-00000000000e7fff (prio 0, rom): ram0 @00000000000c3000 KVM
  00000000000e8000-00000000000effff (prio 0, ram): ram0 @00000000000e8000
  00000000000f0000-00000000000fffff (prio 0, ram): ram0 @00000000000f0000
  0000000000100000-000000007fffffff (prio 0, ram): ram0 @0000000000100000
  00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram
  0000000100000000-000000019fffffff (prio 0, ram): ram0 @0000000080000000

FlatView #2
 AS "cpu-smm-0", root: memory
 Root memory region: memory
  0000000000000000-000000007fffffff (prio 0, ram): smm
`;

test("RAM of the flat view: ROM left out, neighbours merged, aliases at their offset", () => {
  assert.deepEqual(parseMtree(mtree), [
    { gpa: 0, length: 0xa0000, block: "ram0", offset: 0 },
    { gpa: 0xc0000, length: 0x3000, block: "ram0", offset: 0xc0000 },
    { gpa: 0xe8000, length: 0x7ff18000, block: "ram0", offset: 0xe8000 },
    { gpa: 0xfd000000, length: 0x1000000, block: "vga.vram", offset: 0 },
    { gpa: 0x100000000, length: 0xa0000000, block: "ram0", offset: 0x80000000 },
  ]);
  assert.deepEqual(parseMtree(mtree.replaceAll("\n", "\r\n")), parseMtree(mtree));
  assert.deepEqual(parseMtree("unknown command: 'info mtree -f'"), []);
});

test("registers of a 64-bit vCPU", () => {
  const [first, second] = parseRegisters(`
CPU#0
RAX=ffffffff81c00000 RBX=0000000000000000 RCX=0000000000000001 RDX=0000000000000002
R8 =0000000000000008 R9 =0000000000000009 R10=000000000000000a R11=000000000000000b
RIP=ffffffff81c0dead RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1
CS =0010 0000000000000000 ffffffff 00af9b00 DPL=0 CS64 [-RA]
GS =0000 ffff88803fc00000 ffffffff 00c00000
TR =0040 fffffe0000003000 00004087 00008b00 DPL=0 TSS64-busy
GDT=     fffffe0000001000 0000007f
IDT=     fffffe0000000000 00000fff
CR0=80050033 CR2=00007f0000001000 CR3=000000000260a000 CR4=003706f0
DR0=0000000000000000 DR1=0000000000000000 DR2=0000000000000000 DR3=0000000000000000 
EFER=0000000000000d01
FCW=037f FSW=0000 [ST=0] FTW=00 MXCSR=00001f80
XMM00=0000000000000000 0000000000000000 XMM01=0000000000000000 0000000000000000

CPU#1
RAX=0000000000000001 RBX=0000000000000000 RCX=0000000000000001 RDX=0000000000000002
`);
  assert.equal(first!.index, 0);
  const expected: Record<string, bigint> = {
    rax: 0xffffffff81c00000n,
    r8: 8n,
    r11: 11n,
    rip: 0xffffffff81c0deadn,
    rflags: 0x246n,
    cs: 0x10n,
    gs_base: 0xffff88803fc00000n,
    tr_base: 0xfffffe0000003000n,
    gdtr_base: 0xfffffe0000001000n,
    gdtr_limit: 0x7fn,
    idtr_base: 0xfffffe0000000000n,
    cr0: 0x80050033n,
    cr2: 0x7f0000001000n,
    cr3: 0x260a000n,
    cr4: 0x3706f0n,
    dr3: 0n,
    efer: 0xd01n,
  };
  for (const [name, value] of Object.entries(expected)) assert.equal(first!.registers[name], value, name);
  assert.equal(
    Object.keys(first!.registers).some((name) => /xmm|fcw|mxcsr/.test(name)),
    false,
  );
  assert.equal(second!.index, 1);
  assert.equal(second!.registers.rax, 1n);
});

test("registers of a vCPU in real mode come under the same names", () => {
  const [vcpu] = parseRegisters(`
CPU#0
EAX=00000001 EBX=00000000 ECX=0000b79d EDX=00000000
EIP=0000b7b9 EFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1
CS =f000 000f0000 0000ffff 00009b00
GDT=     00000000 00000000
CR0=00000010 CR2=00000000 CR3=00000000 CR4=00000000
`);
  assert.deepEqual(
    [vcpu!.registers.rax, vcpu!.registers.rip, vcpu!.registers.rflags, vcpu!.registers.cs_base, vcpu!.registers.cr0],
    [1n, 0xb7b9n, 0x246n, 0xf0000n, 0x10n],
  );
});

const lines: [string, string[], Partial<ReturnType<typeof parseCommandLine>>][] = [
  [
    "-qmp",
    ["-qmp", "unix:/run/a.sock,server=on,wait=off", "-m", "512"],
    { qmpSockets: ["/run/a.sock"], memoryBytes: 2 ** 29 },
  ],
  ["a relative socket", ["-qmp", "unix:a=b.sock,server,nowait"], { qmpSockets: ["/vm/a=b.sock"] }],
  [
    "a chardev and a monitor, in any order",
    ["-mon", "chardev=m,mode=control", "-chardev", "socket,id=m,path=/run/m,,1.sock,server=on"],
    { qmpSockets: ["/run/m,1.sock"] },
  ],
  [
    "a human monitor is no QMP",
    ["-chardev", "socket,id=m,path=/run/m.sock", "-mon", "chardev=m,mode=readline"],
    { qmpSockets: [] },
  ],
  [
    "JSON",
    [
      "-chardev",
      '{"id":"c","backend":{"type":"socket","data":{"addr":{"type":"unix","data":{"path":"/run/j.sock"}},"server":true}}}',
      "-mon",
      '{"chardev":"c","mode":"control"}',
      "-machine",
      '{"type":"q35"}',
    ],
    { qmpSockets: ["/run/j.sock"], machine: "q35" },
  ],
  [
    "name, machine and size",
    ["-name", "guest=web1,debug-threads=on", "-M", "pc-q35-7.2,max-ram-below-4g=1G", "-m", "size=4G,slots=2"],
    { name: "web1", machine: "pc-q35-7.2", maxRamBelow4g: 2 ** 30, memoryBytes: 2 ** 32 },
  ],
  ["nothing given", ["-nodefaults", "-S"], { name: "", machine: "pc", memoryBytes: 128 * 2 ** 20, qmpSockets: [] }],
];
for (const [what, argv, expected] of lines) {
  test(`command line: ${what}`, () => {
    const parsed = parseCommandLine(["qemu-system-x86_64", ...argv], "/vm");
    assert.deepEqual({ ...parsed, ...expected }, parsed);
  });
}

test("the layout of a PC without a monitor", () => {
  const GiB = 2 ** 30;
  const above = (machine: string, bytes: number, limit?: number) =>
    guessLayout(machine, bytes, limit)!.find(({ gpa }) => gpa === 4 * GiB);
  assert.equal(above("pc", 3.25 * GiB), undefined);
  assert.deepEqual(above("pc", 3.5 * GiB), { gpa: 4 * GiB, length: GiB / 2, block: "ram", offset: 3 * GiB });
  assert.equal(above("q35", 2.5 * GiB), undefined);
  assert.deepEqual(above("pc-q35-7.2", 2.75 * GiB), {
    gpa: 4 * GiB,
    length: 0.75 * GiB,
    block: "ram",
    offset: 2 * GiB,
  });
  assert.deepEqual(above("q35", 4 * GiB, GiB), { gpa: 4 * GiB, length: 3 * GiB, block: "ram", offset: GiB });
  assert.equal(guessLayout("virt", GiB), undefined);
});

test("mappings of a process", () => {
  const [shared, anonymous] = parseMaps(
    "7f0000000000-7f0020000000 rw-s 00001000 00:01 1034  /memfd:memory-backend-memfd (deleted)\n7f0020000000-7f0021000000 rw-p 00000000 00:00 0 \n",
  );
  assert.deepEqual(
    [shared!.start, shared!.end, shared!.shared, shared!.offset, shared!.device, shared!.inode],
    [0x7f0000000000, 0x7f0020000000, true, 0x1000, "00:01", 1034],
  );
  assert.deepEqual([anonymous!.shared, anonymous!.inode, anonymous!.path], [false, 0, ""]);
});
