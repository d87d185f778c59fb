// kernel_symbols, and the look-up of symbols, against /proc/kallsyms.
import assert from "node:assert/strict";
import type { KernelSymbol } from "../../lab/index.ts";
import type { Guest } from "../../vmi/index.ts";
import { type Row, randomOf, read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

const SAMPLE = 200;

export const comparison: Comparison = {
  table: "kernel_symbols",
  async compare(subject, guest) {
    // What programs and trampolines made at run time have is no module's: their names are in brackets or lower case words.
    const truth = (await subject.lab.kallsyms()).filter(({ module }) => module !== "bpf" && !module?.startsWith("__"));
    const rows = read(guest, "kernel_symbols");
    assert.equal(rows.length, truth.length);
    truth.forEach((symbol, i) => {
      const { name, address, type, module } = rows[i]!;
      if (name !== symbol.name || address !== hex(symbol) || type !== symbol.type || module !== (symbol.module ?? ""))
        assert.deepEqual({ name, address, type, module }, rowOf(symbol), `symbol ${i}`);
    });
    const modules = new Set(truth.map(({ module }) => module).filter((module) => module !== undefined));
    assert.ok(modules.size > 5, "symbols of modules");
    compareByName(guest, truth);
    compareLookups(guest, truth);
    return `${rows.length} rows, of ${modules.size} modules`;
  },
};

const hex = ({ address }: KernelSymbol) => `0x${address.toString(16).padStart(16, "0")}`;
const rowOf = (symbol: KernelSymbol): Row => ({
  name: symbol.name,
  address: hex(symbol),
  type: symbol.type,
  module: symbol.module ?? "",
});

/** By name: every symbol of the name, also where there are several, and none of others. */
function compareByName(guest: Guest, truth: readonly KernelSymbol[]): void {
  const ofModules = truth.filter(({ module }) => module !== undefined);
  const random = randomOf(11);
  const pick = (from: readonly KernelSymbol[]) => from[Math.floor(random() * from.length)]!.name;
  const names = [
    ...Array.from({ length: SAMPLE }, () => pick(truth)),
    ...Array.from({ length: 20 }, () => pick(ofModules)),
  ];
  const found = read(guest, "kernel_symbols", {
    columns: ["name", "address", "type", "module"],
    where: [{ column: "name", values: [...names, "init_module", "no_such_symbol"] }],
  });
  const wanted = new Set([...names, "init_module"]);
  assert.deepEqual(found, truth.filter(({ name }) => wanted.has(name)).map(rowOf));
}

/** The first of each name, and what is at an address of a module. */
function compareLookups(guest: Guest, truth: readonly KernelSymbol[]): void {
  const ofModules = truth.filter(({ module, type }) => module !== undefined && /^t$/i.test(type));
  const firstOf = new Map<string, KernelSymbol>();
  for (const symbol of truth) if (!firstOf.has(symbol.name)) firstOf.set(symbol.name, symbol);
  const random = randomOf(5);
  const picked = Array.from({ length: SAMPLE }, () => ofModules[Math.floor(random() * ofModules.length)]!);
  const found = guest.symbols(picked.map(({ name }) => name));
  picked.forEach(({ name }, i) => {
    const { address, type, module } = found[i]!;
    assert.deepEqual({ address, type, module, name }, firstOf.get(name));
  });
  guest.symbolsAt(picked.map(({ address }) => address)).forEach((symbol, i) => {
    const { address, module } = symbol!;
    assert.deepEqual({ address, module }, { address: picked[i]!.address, module: picked[i]!.module });
    // Several symbols may share a place.
    const names = truth.filter((other) => other.address === address).map(({ name }) => name);
    assert.ok(names.includes(symbol!.name), symbol!.name);
  });
}
