// Compares what the engine says of the kernel itself with what the guest says.
import assert from "node:assert/strict";
import type { KernelSymbol, Truth } from "../../lab/index.ts";
import type { Guest } from "../../vmi/index.ts";
import { type Row, randomOf } from "./support.ts";

export function compareModules(rows: readonly Row[], truth: Truth): void {
  const expected = truth.modules.map(({ name, size, references, usedBy, state, address, taints }) => ({
    name,
    size,
    used_by: usedBy.length === 0 ? "-" : usedBy.map((user) => `${user},`).join(""),
    status: state,
    address: `0x${address.toString(16)}`,
    references,
    taints,
  }));
  const actual = rows.map(({ name, size, used_by, status, address, references, taints }) => ({
    name,
    size,
    used_by,
    status,
    address,
    references,
    taints,
  }));
  assert.deepEqual(actual, expected);
}

export function compareMemoryMap(rows: readonly Row[], truth: Truth): void {
  const hex = (value: number) => `0x${value.toString(16)}`;
  const expected = truth.iomem.map(({ start, end, name, depth }) => ({
    name,
    start: hex(start),
    end: hex(end),
    depth,
    size: end - start + 1,
  }));
  assert.deepEqual(rows, expected);
}

/** `after` was taken after the row was read, `before` before. */
export function compareKernelInfo(row: Row, before: Truth, after: Truth, expected: Row): void {
  const { version, banner, boot_time } = row;
  assert.equal(version, before.release);
  assert.equal(banner, before.version);
  assert.equal(row.arguments, before.cmdline);
  assert.equal(row.build, /(#\d+ .*)$/.exec(before.version)?.[1]);
  assert.equal(row.machine, "x86_64");
  assert.equal(boot_time, before.bootTime);
  for (const [key, value] of Object.entries(expected)) assert.equal(row[key], value, key);
  // An idle guest ticks rarely, but collecting its truth kept it busy just before.
  const uptime = row.uptime as number;
  assert.ok(uptime >= Math.floor(before.uptime) - 1 && uptime <= after.uptime, `uptime ${uptime}`);
  const time = row.time as number;
  assert.ok(time - uptime - before.bootTime >= 0 && time - uptime - before.bootTime <= 1, `time ${time}`);
}

/** Every symbol of the kernel proper: address, letter and name, in the same order. Returns how many. */
export function compareSymbols(guest: Guest, truth: readonly KernelSymbol[]): number {
  const expected = truth.filter((symbol) => symbol.module === undefined);
  let i = 0;
  for (const { address, type, name } of guest.kernel.kallsyms) {
    const symbol = expected[i++];
    if (symbol === undefined || address !== symbol.address || type !== symbol.type || name !== symbol.name) {
      assert.deepEqual({ address, type, name, module: undefined }, symbol, `symbol ${i}`);
    }
  }
  assert.equal(i, expected.length);
  return i;
}

/** Symbols by name and by address: at a symbol, within it, and just before the next. */
export function compareLookups(guest: Guest, truth: readonly KernelSymbol[]): number {
  const kernel = truth.filter((symbol) => symbol.module === undefined);
  const random = randomOf(7);
  const pick = () => kernel[Math.floor(random() * kernel.length)]!;
  const firstOf = new Map<string, KernelSymbol>();
  for (const symbol of kernel) if (!firstOf.has(symbol.name)) firstOf.set(symbol.name, symbol);
  const names = Array.from({ length: 300 }, () => pick().name);
  assert.deepEqual(
    guest.symbols([...names, "no_such_symbol"]).map((found) => found && { type: found.type, address: found.address }),
    [...names.map((name) => firstOf.get(name)!), undefined].map(
      (symbol) => symbol && { type: symbol.type, address: symbol.address },
    ),
  );
  const addresses = Array.from({ length: 300 }, () => pick().address).flatMap((at) => [at, at + 1n, at - 1n]);
  const wanted = addresses.filter((address) => address >= kernel[0]!.address);
  const found = guest.symbolsAt(wanted);
  wanted.forEach((address, i) => {
    const symbol = lastBefore(kernel, address);
    // Absolute symbols are no places, and what is far behind one is not of it.
    const isPlace = symbol.address >= 1n << 63n && address - symbol.address <= 1n << 20n;
    const { name, type, address: start } = found[i] ?? {};
    assert.deepEqual(found[i] && { name, type, address: start, module: undefined }, isPlace ? symbol : undefined);
  });
  return names.length + wanted.length;
}

/** The first of the symbols at the highest place that is not above the address. */
function lastBefore(symbols: readonly KernelSymbol[], address: bigint): KernelSymbol {
  let low = 0;
  let high = symbols.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (symbols[middle]!.address <= address) low = middle;
    else high = middle - 1;
  }
  while (symbols[low - 1]?.address === symbols[low]!.address) low--;
  return symbols[low]!;
}

/** The value of a kernel variable of 64 bits. */
export function variable(guest: Guest, name: string): bigint {
  const [symbol] = guest.symbols([name]);
  assert.ok(symbol, `the kernel has no ${name}`);
  const [result] = guest.read([{ space: "kernel", address: symbol.address, length: 8 }]);
  assert.equal(result!.error, "");
  return Buffer.from(result!.bytes).readBigUInt64LE();
}
