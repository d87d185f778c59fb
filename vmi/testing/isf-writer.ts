/** An ISF as Volatility's dwarf2json writes it: the structures, enumerations and integers of a BTF, and symbols. */
import type { Btf } from "../symbols/btf.ts";
import { resolveType } from "../symbols/type-model.ts";

export interface IsfSymbol {
  readonly name: string;
  /** As the kernel was linked. */
  readonly address: bigint;
  /** What is there. */
  readonly data?: Uint8Array;
}

export function isfOf(btf: Btf, symbols: readonly IsfSymbol[] = []): Uint8Array {
  const base: Record<string, unknown> = {};
  const enums: Record<string, unknown> = {};
  const users: Record<string, unknown> = {};
  const tag = (id: number, name: string) => name || `unnamed_${id}`;

  function typeOf(id: number): unknown {
    const { id: at, type } = resolveType(btf, id) ?? { id: 0, type: { kind: "void" } as const };
    switch (type.kind) {
      case "pointer":
        return { kind: "pointer", subtype: typeOf(type.to) };
      case "array":
        return { kind: "array", count: type.count, subtype: typeOf(type.of) };
      case "struct":
      case "union":
      case "enum":
        return { kind: type.kind, name: tag(at, type.name) };
      case "forward":
        return { kind: type.word, name: type.name };
      case "int":
      case "float":
        return { kind: "base", name: type.name };
      case "function":
        return { kind: "function" };
      default:
        return { kind: "base", name: "void" };
    }
  }

  for (let id = 1; id <= btf.count; id++) {
    const type = btf.describe(id);
    if (type?.kind === "int" || type?.kind === "float")
      base[type.name] = { size: type.size, signed: type.kind === "int" && type.signed, kind: "int", endian: "little" };
    if (type?.kind === "enum")
      enums[tag(id, type.name)] = {
        size: type.size,
        base: "int",
        constants: Object.fromEntries(type.values.map(({ name, value }) => [name, Number(value)])),
      };
    if (type?.kind !== "struct" && type?.kind !== "union") continue;
    const fields = type.fields.map(({ name, type: of, bits, width }, i) => {
      const plain = typeOf(of);
      const anonymous = name === "" ? { anonymous: true } : {};
      const position = { kind: "bitfield", bit_position: bits % 8, bit_length: width, type: plain };
      const entry: [string, object] = [
        name || `unnamed_field_${i}`,
        { type: width > 0 ? position : plain, offset: bits >>> 3, ...anonymous },
      ];
      return entry;
    });
    // Names in their own order, as there.
    fields.sort(([a], [b]) => (a < b ? -1 : 1));
    users[tag(id, type.name)] ??= { size: type.size, kind: type.kind, fields: Object.fromEntries(fields) };
  }
  const text = JSON.stringify({ metadata: { format: "6.2.0" }, base_types: base, enums, user_types: users });
  // Numbers beyond 2^53, which JSON.stringify does not write.
  const entries = symbols.map(({ name, address, data }) => {
    const constant = data ? `,"constant_data":"${Buffer.from(data).toString("base64")}"` : "";
    return `${JSON.stringify(name)}:{"type":{"kind":"base","name":"void"},"address":${address}${constant}}`;
  });
  return Buffer.from(`${text.slice(0, -1)},"symbols":{${entries.join(",")}}}`);
}
