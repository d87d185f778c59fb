/** Types as C has them, independent of where they were read from. Ids are those of the source that gave them. */

export interface StructField {
  /** Empty for an anonymous structure or union. */
  readonly name: string;
  readonly type: number;
  /** Bits from the start of the structure. */
  readonly bits: number;
  /** Bits, for a bit field; otherwise 0. */
  readonly width: number;
}

export type CType =
  | {
      readonly kind: "int";
      readonly name: string;
      /** Bytes. */
      readonly size: number;
      readonly signed: boolean;
    }
  | { readonly kind: "float"; readonly name: string; readonly size: number }
  | { readonly kind: "void" }
  | { readonly kind: "pointer"; readonly to: number }
  | { readonly kind: "array"; readonly of: number; readonly count: number }
  | {
      readonly kind: "struct" | "union";
      readonly name: string;
      readonly size: number;
      readonly fields: readonly StructField[];
    }
  | {
      readonly kind: "enum";
      readonly name: string;
      readonly size: number;
      readonly signed: boolean;
      readonly values: readonly { readonly name: string; readonly value: bigint }[];
    }
  /** Declared and not defined: struct or union. */
  | { readonly kind: "forward"; readonly name: string; readonly word: "struct" | "union" }
  | { readonly kind: "typedef"; readonly name: string; readonly to: number }
  /** The word is empty for an annotation that C does not show. */
  | { readonly kind: "qualified"; readonly word: "const" | "volatile" | "restrict" | ""; readonly to: number }
  | { readonly kind: "function"; readonly returns: number; readonly parameters: readonly number[] };

/** What names a type stands under: its tag's word, or none for typedefs and basic types. */
export type TypeWord = "struct" | "union" | "enum" | "";

export interface TypeSource {
  /** Undefined for an id that there is not. */
  describe(id: number): CType | undefined;
  /** The ids of all types of a name, in the order of the source. */
  named(name: string): number[];
}

/** Types within types; more is not believed. */
const MAX_DEPTH = 32;
const MAX_PARAMETERS = 32;

/** Past typedefs and qualifiers. */
export function resolveType(types: TypeSource, id: number): { id: number; type: CType } | undefined {
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    const type = types.describe(id);
    if (type === undefined) return undefined;
    if (type.kind !== "typedef" && type.kind !== "qualified") return { id, type };
    id = type.to;
  }
  return undefined;
}

/** Bytes; 0 when unknown. */
export function sizeOfType(types: TypeSource, id: number, depth = 0): number {
  const type = depth > MAX_DEPTH ? undefined : resolveType(types, id)?.type;
  switch (type?.kind) {
    case "int":
    case "float":
    case "struct":
    case "union":
    case "enum":
      return type.size;
    case "pointer":
      return 8;
    case "array":
      return sizeOfType(types, type.of, depth + 1) * type.count;
    default:
      return 0;
  }
}

/** As C declares something of the type: `int (*probe)(struct device *)`. */
export function declareType(types: TypeSource, id: number, name = ""): string {
  return declare(types, id, name, 0).trim();
}

function declare(types: TypeSource, id: number, inner: string, depth: number): string {
  const type = depth > MAX_DEPTH ? undefined : types.describe(id);
  const join = (word: string) => `${word} ${inner}`.trimEnd();
  switch (type?.kind) {
    case undefined:
      return join("?");
    case "void":
      return join("void");
    case "int":
    case "float":
    case "typedef":
      return join(type.name || "?");
    case "struct":
    case "union":
    case "enum":
      return join(`${type.kind} ${type.name || "{…}"}`);
    case "forward":
      return join(`${type.word} ${type.name}`);
    case "pointer": {
      const to = resolveQualified(types, type.to);
      const star = `*${inner}`;
      return declare(types, type.to, to === "array" || to === "function" ? `(${star})` : star, depth + 1);
    }
    case "array":
      return declare(types, type.of, `${inner}[${type.count}]`, depth + 1);
    case "function": {
      const parameters = type.parameters
        .slice(0, MAX_PARAMETERS)
        .map((each) => declare(types, each, "", depth + 1).trim());
      return declare(types, type.returns, `${inner}(${parameters.join(", ") || "void"})`, depth + 1);
    }
    case "qualified": {
      if (type.word === "") return declare(types, type.to, inner, depth + 1);
      // What stands behind the star qualifies the pointer, otherwise what is pointed to.
      return types.describe(type.to)?.kind === "pointer"
        ? declare(types, type.to, `${type.word} ${inner}`.trimEnd(), depth + 1)
        : `${type.word} ${declare(types, type.to, inner, depth + 1)}`;
    }
  }
}

/** The kind behind qualifiers, typedefs kept: what decides whether a pointer's star needs parentheses. */
function resolveQualified(types: TypeSource, id: number): CType["kind"] | undefined {
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    const type = types.describe(id);
    if (type?.kind !== "qualified") return type?.kind;
    id = type.to;
  }
  return undefined;
}
