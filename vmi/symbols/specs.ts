/**
 * What the engine wants to know of a kernel: structures as lists of members, and symbols. Each is declared in the file
 * that uses it. The declarations of a program are all known before it attaches to a guest, so that a profile can hold
 * the answers to every one of them.
 */

/** A member path; several are tried in order, newest first. One that begins with `?` may be missing. */
type MemberPaths = string | readonly string[];

export interface StructSpec<Key extends string = string> {
  readonly name: string;
  readonly id: number;
  readonly members: readonly { readonly key: Key; readonly paths: readonly string[]; readonly optional: boolean }[];
  readonly optional: boolean;
}

/** Byte offsets of the declared members; -1 for an optional one that this kernel lacks. */
export type Layout<Key extends string = string> = Readonly<Record<Key, number>> & {
  /** Bytes of the whole structure. */
  readonly sizeof: number;
  /** Bytes from its start to behind the last declared member, taken as 8 bytes long. */
  readonly extent: number;
};

export interface SymbolSpec {
  readonly name: string;
  readonly id: number;
  readonly optional: boolean;
}

const structs: StructSpec[] = [];
const symbols: SymbolSpec[] = [];

/**
 * Declares a structure and the members that are used. A name that begins with `?` may be missing in a kernel: every
 * offset is then -1. Member paths are dotted, as in {@link Btf.member}. With `enum NAME` it is an enumeration, whose
 * members' offsets are their values.
 */
export function struct<const M extends Record<string, MemberPaths>>(
  name: string,
  members: M,
): StructSpec<keyof M & string> {
  const spec: StructSpec<keyof M & string> = {
    name: name.replace(/^\?/, ""),
    optional: name.startsWith("?"),
    id: structs.length,
    members: Object.entries(members).map(([key, paths]) => {
      const list = typeof paths === "string" ? [paths] : paths;
      return {
        key: key as keyof M & string,
        paths: list.map((path) => path.replace(/^\?/, "")),
        optional: list.some((path) => path.startsWith("?")),
      };
    }),
  };
  structs.push(spec);
  return spec;
}

/** Declares a kernel symbol that is used. A name that begins with `?` may be missing. */
export function symbol(name: string): SymbolSpec {
  const spec = { name: name.replace(/^\?/, ""), optional: name.startsWith("?"), id: symbols.length };
  symbols.push(spec);
  return spec;
}

export function declaredStructs(): readonly StructSpec[] {
  return structs;
}

export function declaredSymbols(): readonly SymbolSpec[] {
  return symbols;
}
