// syscall_table against /proc/kallsyms, and against what tracing knows of system calls (syscalls_metadata).
import assert from "node:assert/strict";
import type { Guest } from "../../vmi/index.ts";
import { variable } from "../engine/kernel.ts";
import { type Row, read, textIn } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

export const comparison: Comparison = {
  table: "syscall_table",
  async compare(subject, guest) {
    const symbols = await subject.lab.kallsyms();
    const names = new Map<bigint, Set<string>>();
    for (const { address, name } of symbols) names.set(address, (names.get(address) ?? new Set()).add(name));
    const rows = read(guest, "syscall_table", { where: [{ column: "abi", values: ["64"] }] });
    assert.ok(rows.length > 400, `${rows.length} system calls`);
    const code = symbols.some(({ name }) => name === "x64_sys_call");
    let implemented = 0;
    for (const row of rows) {
      const aliases = names.get(BigInt(textIn(row, "address")))!;
      const about = `${row.number} ${row.name}: ${[...aliases].join(", ")}`;
      assert.ok(aliases.has(textIn(row, "symbol")), about);
      assert.equal(row.expected, 1, about);
      assert.equal(row.module, "", about);
      assert.equal(row.dispatch, code ? "code" : "table");
      if (!aliases.has("__x64_sys_ni_syscall")) implemented++;
    }
    assert.ok(implemented > 300, `${implemented} are implemented`);
    for (const [number, name] of [
      [0, "read"],
      [59, "execve"],
      [321, "bpf"],
      [425, "io_uring_setup"],
    ] as const) {
      assert.equal(rows[number]!.name, name);
    }
    const others = otherTables(guest, names);
    return `${rows.length} rows, ${others} of other tables, ${traced(guest, rows)} also as tracing names them`;
  },
};

/** What 32-bit and x32 programs call: each function by its symbol, some by number, and no more numbers than the kernel has. */
function otherTables(guest: Guest, names: ReadonlyMap<bigint, ReadonlySet<string>>): number {
  const rows = read(guest, "syscall_table").filter(({ abi }) => abi !== "64");
  for (const row of rows) {
    const about = JSON.stringify(row);
    const aliases = names.get(BigInt(textIn(row, "address"))) ?? new Set();
    assert.ok(aliases.has(textIn(row, "symbol")), about);
    // x32 shares the functions of 64-bit programs but where an argument differs in size.
    const own = row.abi === "32" ? /^__ia32_(?:compat_)?sys_/ : /^__x(?:64|32_compat)_sys_|^__x64_(?:compat_)?sys_/;
    assert.ok(
      [...aliases].some((name) => own.test(name)),
      about,
    );
    assert.deepEqual([row.module, row.name, row.expected], ["", null, null], about);
  }
  const symbolOf = (abi: string, number: number) =>
    rows.find((row) => row.abi === abi && row.number === number)?.symbol;
  const known = [...names.values()].some((aliases) => aliases.has("ia32_sys_call_table"));
  assert.equal(
    rows.some(({ abi }) => abi === "32"),
    known,
    "the table of 32-bit programs",
  );
  if (known) {
    for (const [number, name] of [
      [1, "__ia32_sys_exit"],
      [3, "__ia32_sys_read"],
      [11, "__ia32_compat_sys_execve"],
      [357, "__ia32_sys_bpf"],
    ] as const) {
      assert.equal(symbolOf("32", number), name);
    }
  }
  return rows.length;
}

/** The kernel's own names by number: struct syscall_metadata, of which the name is the first member. */
function traced(guest: Guest, rows: readonly Row[]): number {
  const table = variable(guest, "syscalls_metadata");
  const u64 = (address: bigint) =>
    Buffer.from(guest.read([{ space: "kernel", address, length: 8 }])[0]!.bytes).readBigUInt64LE();
  let compared = 0;
  for (const { number, symbol } of rows) {
    const metadata = u64(table + BigInt(number as number) * 8n);
    if (metadata === 0n) continue;
    const [found] = guest.read([{ space: "kernel", address: u64(metadata), length: 64 }]);
    const name = Buffer.from(found!.bytes).toString("latin1").split("\0")[0]!;
    assert.ok(name.startsWith("sys_"), name);
    if (symbol === `__x64_${name}`) compared++;
  }
  assert.ok(compared > 250, `${compared} are traced`);
  return compared;
}
