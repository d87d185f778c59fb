import assert from "node:assert/strict";
import { test } from "node:test";
import { fiveLevel, fourLevel } from "../arch/x86-64.ts";
import { attach, type Guest } from "../guest.ts";
import { type MiniGuest, miniGuest } from "../testing/mini-guest.ts";
import { MiniKernel } from "../testing/mini-kernel.ts";
import { addProcess } from "../testing/mini-objects.ts";
import { rowsOf, type TestRow } from "../testing/rows.ts";

const variants = [
  { flavour: "6.1", mmu: fourLevel, encoding: "percpu" },
  { flavour: "6.13", mmu: fiveLevel, encoding: "base" },
] as const;
const none = { absent: "notApplicable" };
const hex = (address: bigint) => `0x${address.toString(16).padStart(16, "0")}`;

/** The rows of a table in every variant of a guest and both kinds of memory. */
function everywhere(
  table: string,
  check: (rows: TestRow[], mini: MiniGuest, guest: Guest) => void,
  prepare: (mini: MiniGuest) => void = () => {},
  notes: readonly string[] = [],
): void {
  for (const variant of variants) {
    const mini = miniGuest(variant);
    prepare(mini);
    for (const memory of [mini.kernel.ram.mapped(), mini.kernel.ram.paged()]) {
      const guest = attach(memory);
      const answer = guest.table(table);
      assert.deepEqual(answer.notes, notes);
      check(rowsOf(answer), mini, guest);
    }
  }
}

test("kernel_symbols: the kernel's own, then those of modules, and by name only these", () => {
  everywhere(
    "kernel_symbols",
    (rows, { kernel, hooks }, guest) => {
      const own = rows.filter(({ module }) => module === "");
      assert.equal(own.length, guest.kernel.kallsyms.count);
      assert.ok(own.some(({ name, address }) => name === "init_task" && address === hex(kernel.initTask.va)));
      const { text } = hooks;
      assert.deepEqual(
        rows.slice(own.length).map(({ position: _, ...row }) => row),
        [
          { name: "alpha_init", address: hex(text), type: "t", module: "alpha" },
          { name: "alpha_call", address: hex(text + 0x40n), type: "t", module: "alpha" },
          { name: "alpha_alias", address: hex(text + 0x40n), type: "t", module: "alpha" },
          { name: "printk", address: hex(0n), type: "u", module: "alpha" },
          { name: ".L7", address: hex(text + 0x80n), type: "t", module: "alpha" },
        ],
      );
      const named = guest.table("kernel_symbols", {
        columns: ["name", "module"],
        where: [{ column: "name", values: ["alpha_call", "init_task", "missing"] }],
      });
      assert.deepEqual(rowsOf(named), [
        { name: "init_task", module: "" },
        { name: "alpha_call", module: "alpha" },
      ]);
    },
    undefined,
    ["the symbols of module 1 could not be read"],
  );
});

test("symbols of modules by name and by address", () => {
  for (const variant of variants) {
    const { kernel, hooks } = miniGuest(variant);
    const guest = attach(kernel.ram.mapped());
    const [found, missing] = guest.symbols(["alpha_call", "alpha_nothing"]);
    assert.deepEqual(found, { index: 2, name: "alpha_call", type: "t", address: hooks.text + 0x40n, module: "alpha" });
    assert.equal(missing, undefined);
    const at = guest.symbolsAt([hooks.text + 0x3fn, hooks.text + 0x95n, kernel.symbol("init_task")]);
    // .L7 is the assembler's; of two at one place the first counts.
    assert.deepEqual(
      at.map((symbol) => [symbol?.name, symbol?.module]),
      [
        ["alpha_init", "alpha"],
        ["alpha_call", "alpha"],
        ["init_task", undefined],
      ],
    );
  }
});

test("kernel_module_parameters: values of each kind", () => {
  everywhere("kernel_module_parameters", (rows) => {
    const common = { module: "alpha", built_in: 0 };
    assert.deepEqual(rows, [
      { ...common, name: "number", type: "int", value: "-5", permissions: "0644" },
      { ...common, name: "switch", type: "bool", value: "Y", permissions: "0444" },
      { ...common, name: "words", type: "charp", value: "text", permissions: "0000" },
      { ...common, name: "list", type: "array of int", value: "7,8,9", permissions: "0600" },
      { ...common, name: "chars", type: "string", value: "chars", permissions: "0444" },
      { ...common, name: "own", type: none, value: none, permissions: "0444" },
    ]);
  });
});

test("kernel_module_sections: those that are freed have no size", () => {
  everywhere("kernel_module_sections", (rows, { hooks: { text } }) => {
    assert.deepEqual(rows, [
      { module: "alpha", name: ".text", address: hex(text), size: 4096 },
      { module: "alpha", name: ".init.text", address: hex(text + 0x100_0000n), size: none },
    ]);
  });
});

test("interrupt_table", () => {
  everywhere("interrupt_table", (rows, { kernel }) => {
    assert.equal(rows.length, 256);
    assert.deepEqual(rows[3], {
      vector: 3,
      address: hex(kernel.symbol("chain_callback")),
      symbol: "chain_callback",
      module: "",
      type: "interrupt",
      dpl: 3,
      ist: 0,
      present: 1,
      segment: 16,
      entry: hex(kernel.symbol("idt_table") + 48n),
    });
    assert.deepEqual([rows[2]!.ist, rows[2]!.dpl], [2, 0]);
  });
});

test("notifier_chains: callbacks in their order, of the kernel and of modules", () => {
  everywhere("notifier_chains", (rows, { hooks }) => {
    assert.deepEqual(
      rows.map(({ chain, priority, address, symbol, module }) => [chain, priority, address, symbol, module]),
      [
        ["netdev_chain", 10, hex(hooks.callbacks[0]!), "chain_callback", ""],
        ["netdev_chain", 0, hex(hooks.callbacks[1]!), "alpha_call", "alpha"],
        ["netdev_chain", -10, hex(hooks.callbacks[2]!), "alpha_call+0x50", "alpha"],
      ],
    );
  });
});

test("a chain that comes back to itself ends, and the answer says so", () => {
  everywhere(
    "notifier_chains",
    (rows) => assert.equal(rows.length, 3),
    ({ kernel }) => {
      const first = kernel.readPointer(kernel.symbol("netdev_chain"));
      const next = kernel.types.of.notifier_block!.members.get("next")!.offset;
      let last = first;
      for (let at = first; at !== 0n; at = kernel.readPointer(at + BigInt(next))) last = at;
      kernel.writeInteger(last + BigInt(next), first, 8);
    },
    ["the notifier chain netdev_chain could not be followed to its end"],
  );
});

test("timers_and_workqueues", () => {
  everywhere("timers_and_workqueues", (rows, { hooks, kernel }) => {
    const columns = ["kind", "address", "symbol", "name", "expires", "clock", "object"];
    const told = rows.map((row) => columns.map((column) => row[column]));
    const called = kernel.symbol("chain_callback");
    assert.deepEqual(told.slice(0, 3), [
      ["timer", hex(hooks.text), "alpha_init", none, 4_294_900_000, "jiffies", hex(hooks.timer)],
      ["delayed_work", hex(hooks.text), "alpha_init", none, 4_294_900_001, "jiffies", hex(hooks.delayed)],
      ["hrtimer", hex(called), "chain_callback", none, 2_000_000_000, "monotonic", hex(hooks.high)],
    ]);
    assert.deepEqual(told[3]!.slice(0, 6), ["workqueue", none, none, "events", none, none]);
    // Of workqueue mini_wq: what a worker is at, what waits for one, and what is held back.
    assert.deepEqual(
      rows.slice(4).map(({ kind, name, cpu, address }) => [kind, name, cpu, address]),
      [
        ["workqueue", "mini_wq", none, none],
        ["running_work", "mini_wq", 0, hex(called)],
        ["work", "mini_wq", 0, hex(called)],
        ["inactive_work", "mini_wq", none, hex(called)],
      ],
    );
  });
});

test("what a kernel does not have is refused, or told as missing", () => {
  const bare = new MiniKernel();
  addProcess(bare, { pid: 1, comm: "init" });
  const guest = attach(bare.finish().ram.mapped());
  for (const table of ["syscall_table", "netfilter_hooks"]) {
    assert.throws(() => guest.table(table), { kind: "unsupported-kernel" }, table);
  }
});

test("symbol tables, parameters and sections of absurd sizes are left out", () => {
  for (const variant of variants) {
    const { kernel, hooks } = miniGuest(variant);
    const module = kernel.readPointer(kernel.modules) - BigInt(kernel.types.of.module!.members.get("list")!.offset);
    const at = (member: string) => module + BigInt(kernel.types.of.module!.members.get(member)!.offset);
    kernel.writeInteger(at("num_kp"), 0xffff_ffff, 4);
    const kallsyms = kernel.readPointer(at("kallsyms"));
    const count = kernel.types.of.mod_kallsyms!.members.get("num_symtab")!.offset;
    kernel.writeInteger(kallsyms + BigInt(count), 0x7fff_ffff, 4);
    const guest = attach(kernel.ram.mapped());
    assert.equal(guest.table("kernel_module_parameters").rows, 0);
    const symbols = guest.table("kernel_symbols", { where: [{ column: "module", values: ["alpha"] }] });
    assert.deepEqual([symbols.rows, symbols.incomplete], [0, true]);
    assert.deepEqual(guest.symbols(["alpha_call"]), [undefined]);
    // Still known to be in the module.
    const rows = rowsOf(guest.table("notifier_chains"));
    assert.deepEqual([rows[1]!.address, rows[1]!.symbol, rows[1]!.module], [hex(hooks.callbacks[1]!), none, "alpha"]);
  }
});
