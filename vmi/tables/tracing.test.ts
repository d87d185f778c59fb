import assert from "node:assert/strict";
import { test } from "node:test";
import { fiveLevel, fourLevel } from "../arch/x86-64.ts";
import { Budget } from "../budget.ts";
import { attach } from "../guest.ts";
import { uprobeConsumers, walkUprobes } from "../linux/uprobe.ts";
import { type MiniGuest, miniGuest } from "../testing/mini-guest.ts";
import { rowsOf } from "../testing/rows.ts";
import { tables } from "./index.ts";

const none = { absent: "notApplicable" };
const torn = { absent: "torn" };

const guests = () => [
  miniGuest({ flavour: "6.1", mmu: fourLevel, encoding: "percpu" }),
  miniGuest({ flavour: "6.13", mmu: fiveLevel, encoding: "base" }),
];

/** Answers of fresh guests, changed first, in both kinds of memory; but for who holds descriptors, which the guest has none of. */
function answers(table: string, change: (mini: MiniGuest) => void = () => {}) {
  return guests().flatMap((mini) => {
    change(mini);
    return [mini.kernel.ram.mapped(), mini.kernel.ram.paged()].map((memory) => {
      const answer = attach(memory).table(table, { columns: columnsOf(table) });
      return { mini, rows: rowsOf(answer), incomplete: answer.incomplete, retried: answer.retried };
    });
  });
}

function columnsOf(name: string): string[] {
  const { columns } = tables.find((table) => table.name === name)!;
  return Object.keys(columns).filter((column) => column !== "pids");
}

const code = (offset: number) => `0x${(0xffff_ffff_b000_0000n + BigInt(offset)).toString(16)}`;
const hex = (address: bigint) => `0x${address.toString(16)}`;

test("loaded_bpf_programs, bpf_maps and bpf_links", () => {
  for (const { mini, rows, incomplete } of answers("loaded_bpf_programs")) {
    assert.equal(incomplete, false);
    assert.deepEqual(rows, [
      {
        id: 7,
        type: "tracing",
        name: "mini_program",
        tag: "0102030405060708",
        load_time: 5_000_000_000,
        uid: 1000,
        jited: 1,
        jited_address: code(0),
        jited_size: 40,
        xlated_size: 24,
        verified_instructions: mini.kernel.options.flavour === "6.1" ? { absent: "unsupported" } : 0,
        attach_function: "vfs_read",
        attach_object: "vmlinux",
        maps: "5",
        program: hex(mini.tracing.program.va),
      },
    ]);
  }
  for (const { rows } of answers("bpf_maps")) {
    const [{ map: _map, ...row }] = rows as [(typeof rows)[number]];
    const sizes = { key_size: 4, value_size: 16, max_entries: 8, flags: 128 };
    assert.deepEqual(row, { id: 5, type: "array", name: "mini_map", ...sizes, frozen: 1 });
  }
  for (const { rows } of answers("bpf_links")) {
    const [{ link: _link, ...row }] = rows as [(typeof rows)[number]];
    assert.deepEqual(row, { id: 2, type: "tracing", program_id: 7, target: "vfs_read" });
  }
});

test("a program whose memory is another's by now is left out, and counted", () => {
  const change = ({ kernel, tracing }: MiniGuest) => {
    const aux = kernel.readPointer(tracing.program.at("aux"));
    kernel.writeInteger(aux + BigInt(kernel.types.of.bpf_prog_aux!.members.get("id")!.offset), 8, 4);
  };
  for (const { rows, retried } of answers("loaded_bpf_programs", change))
    assert.deepEqual([rows.length, retried], [0, 1]);
});

test("absurd counts of functions and maps are not believed", () => {
  const change = ({ kernel, tracing }: MiniGuest) => {
    const aux = kernel.readPointer(tracing.program.at("aux"));
    for (const member of ["func_cnt", "used_map_cnt"])
      kernel.writeInteger(aux + BigInt(kernel.types.of.bpf_prog_aux!.members.get(member)!.offset), 0x7fff_ffff, 4);
  };
  for (const { rows } of answers("loaded_bpf_programs", change)) {
    assert.deepEqual([rows[0]!.jited_size, rows[0]!.maps], [{ absent: "unreadable" }, { absent: "unreadable" }]);
  }
});

test("kprobes: one alone, and those that another stands for", () => {
  for (const { rows, incomplete } of answers("kprobes")) {
    assert.equal(incomplete, false);
    const brief = rows.map((row) => [row.address, row.type, row.disabled, row.optimized, row.aggregated, row.missed]);
    assert.deepEqual(brief, [
      [code(64), "k", 1, 0, 0, 3],
      [code(128), "k", 0, 1, 1, 0],
      [code(128), "r", 0, 1, 1, 0],
    ]);
    assert.deepEqual(
      rows.map((row) => [row.pre_handler === code(512), row.post_handler, row.return_handler, row.event]),
      [
        [true, none, none, none],
        [false, code(512), none, none],
        [false, none, code(0), none],
      ],
    );
  }
});

test("kprobes that loop are left where they do", () => {
  const loop = ({ tracing: { alone } }: MiniGuest) => alone.set("hlist.next", alone.at("hlist.next"));
  for (const { rows, incomplete } of answers("kprobes", loop)) assert.deepEqual([rows.length, incomplete], [3, true]);
  const inner = ({ tracing: { children } }: MiniGuest) => children[0]!.set("list.next", children[0]!.at("list"));
  for (const { incomplete } of answers("kprobes", inner)) assert.equal(incomplete, true);
});

test("ftrace_hooks: every function, or few", () => {
  for (const { mini, rows, incomplete } of answers("ftrace_hooks")) {
    assert.equal(incomplete, false);
    const common = { name: none, instance: none, symbol: none, module: none, left_out: 0 };
    const [first, last] = mini.tracing.ops;
    assert.deepEqual(rows, [
      {
        ...common,
        ops: hex(first!.va),
        function: code(16),
        flags: "enabled dynamic pid",
        filtered: 0,
        functions: none,
        trampoline: code(1024),
      },
      {
        ...common,
        ops: hex(last!.va),
        function: code(0),
        flags: "enabled ipmodify permanent",
        filtered: 1,
        functions: "?",
        trampoline: none,
      },
    ]);
  }
});

test("ftrace_ops in a circle, and hashes that lie about themselves", () => {
  const circle = ({ tracing: { ops } }: MiniGuest) => ops[1]!.set("next", ops[0]!.va);
  for (const { rows, incomplete } of answers("ftrace_hooks", circle))
    assert.deepEqual([rows.length, incomplete], [2, true]);
  for (const change of [{ size_bits: 62 }, { buckets: 0x1000 }, { size_bits: 12 }] as Record<string, number>[]) {
    const lie = ({ tracing: { hash } }: MiniGuest) => hash.setAll(change);
    for (const { rows } of answers("ftrace_hooks", lie)) assert.notEqual(rows[1]!.functions, "");
  }
  const absurd = ({ tracing: { hash } }: MiniGuest) => hash.set("size_bits", 62);
  for (const { rows } of answers("ftrace_hooks", absurd)) assert.deepEqual(rows[1]!.functions, torn);
});

test("tracepoints_attached: those with probes only", () => {
  for (const { mini, rows, incomplete } of answers("tracepoints_attached")) {
    assert.equal(incomplete, false);
    const common = { tracepoint: "mini_event", tracepoint_module: none, symbol: none, module: none };
    const rest = { ...common, event: none, instance: none, program_id: none, data: "0x0000000000001234" };
    const address = hex(mini.tracing.tracepoint.va);
    assert.deepEqual(rows, [
      { ...rest, address, function: code(0), priority: 10 },
      { ...rest, address, function: code(16), priority: -1 },
    ]);
  }
});

test("probes that can't be read are told of", () => {
  const change = ({ tracing: { tracepoint } }: MiniGuest) => tracepoint.set("funcs", 0x1000);
  for (const { rows, incomplete } of answers("tracepoints_attached", change))
    assert.deepEqual([rows.length, incomplete], [0, true]);
});

test("uprobes, and who is called there", () => {
  for (const { kernel: mini, tracing } of guests()) {
    for (const memory of [mini.ram.mapped(), mini.ram.paged()]) {
      const { kernel } = attach(memory);
      const walk = walkUprobes(kernel, new Budget());
      assert.deepEqual([walk.count, walk.complete], [1, true]);
      const at = { hi: walk.hi[0]!, lo: walk.lo[0]! };
      const consumers = uprobeConsumers(kernel, at, new Budget());
      assert.deepEqual(
        consumers?.map(({ at: _, ...called }) => called),
        [{ handler: { hi: -1, lo: 0xb000_0000 | 0 }, returnHandler: { hi: 0, lo: 0 } }],
      );
    }
    // A consumer that comes after itself.
    const first = mini.readPointer(tracing.uprobe.at("consumers.next"));
    const next = mini.types.of.uprobe_consumer!.members.get("next");
    if (next !== undefined) mini.writeInteger(first + BigInt(next.offset), first, 8);
    else mini.writeInteger(first, first, 8);
    const { kernel } = attach(mini.ram.mapped());
    const walk = walkUprobes(kernel, new Budget());
    assert.equal(uprobeConsumers(kernel, { hi: walk.hi[0]!, lo: walk.lo[0]! }, new Budget()), undefined);
  }
});
