// notifier_chains: the guest can't list them, so against the names of /proc/kallsyms, and a second path: variables.
import assert from "node:assert/strict";
import { read, textIn } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

/** Callbacks that must be there, as the guest has loaded their modules or every kernel has them. */
const expected = [
  ["netdev_chain", "br_device_event", "bridge"],
  ["netdev_chain", "rtnetlink_event", ""],
  ["netdev_chain", "inetdev_event", ""],
  ["inetaddr_chain", "fib_inetaddr_event", ""],
  ["module_notify_list", "tracepoint_module_notify", ""],
  ["panic_notifier_list", "rcu_panic", ""],
] as const;

export const comparison: Comparison = {
  table: "notifier_chains",
  async compare(subject, guest) {
    const symbols = await subject.lab.kallsyms();
    const names = new Map<string, Set<string>>();
    for (const { address, name, module = "" } of symbols) {
      const key = `0x${address.toString(16).padStart(16, "0")} ${module}`;
      names.set(key, (names.get(key) ?? new Set()).add(name));
    }
    const rows = read(guest, "notifier_chains");
    let before: (typeof rows)[number] | undefined;
    for (const row of rows) {
      const about = JSON.stringify(row);
      // A callback is the start of a function of the kernel or a module.
      assert.ok(names.get(`${row.address} ${row.module}`)?.has(textIn(row, "symbol")), about);
      const first = row.position === 0;
      assert.ok(first || (before!.chain === row.chain && before!.position === (row.position as number) - 1), about);
      assert.ok(first || (before!.priority as number) >= (row.priority as number), about);
      before = row;
    }
    for (const [chain, symbol, module] of expected) {
      assert.ok(
        rows.some((row) => row.chain === chain && row.symbol === symbol && row.module === module),
        `${symbol} in ${chain}`,
      );
    }
    // A variable that is registered begins with its callback.
    const variables = rows.filter((row) => typeof row.block_symbol === "string" && !row.block_symbol.includes("+"));
    assert.ok(variables.length > 30, `${variables.length} of ${rows.length} are variables`);
    for (const { block_symbol, block, address } of variables) {
      assert.ok(symbols.some(({ name, address: at }) => name === block_symbol && at === BigInt(block as string)));
      const [found] = guest.read([{ space: "kernel", address: BigInt(block as string), length: 8 }]);
      assert.equal(`0x${Buffer.from(found!.bytes).readBigUInt64LE().toString(16)}`, address);
    }
    const chains = new Set(rows.map(({ chain }) => chain));
    assert.ok(chains.size > 10);
    return `${rows.length} rows of ${chains.size} chains`;
  },
};
