/** Reads a parsed TOML table strictly: every complaint names the key and what is expected there, in one line. */

export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

type Table = Readonly<Record<string, unknown>>;

export class TableReader {
  readonly #table: Table;
  /** Where the table is, for messages: "agent.toml" or "agent.toml: [tls]". */
  readonly #where: string;
  readonly #known = new Set<string>();

  constructor(table: Table, where: string) {
    this.#table = table;
    this.#where = where;
  }

  /** The value of a key that must be there. */
  string(key: string): string {
    const value = this.optionalString(key);
    if (value === undefined) throw this.problem(`${key} is missing`);
    return value;
  }

  optionalString(key: string): string | undefined {
    const value = this.#take(key);
    if (value === undefined) return undefined;
    if (typeof value !== "string" || value === "") throw this.#expected(key, "a string that is not empty", value);
    return value;
  }

  boolean(key: string, otherwise: boolean): boolean {
    const value = this.#take(key) ?? otherwise;
    if (typeof value !== "boolean") throw this.#expected(key, "true or false", value);
    return value;
  }

  /** A list of words out of a closed set. */
  words<Word extends string>(key: string, allowed: readonly Word[]): Word[] {
    const value = this.#take(key) ?? [];
    const isWord = (item: unknown): item is Word => (allowed as readonly unknown[]).includes(item);
    if (!Array.isArray(value) || !value.every(isWord)) {
      throw this.#expected(key, `a list of ${allowed.map((word) => `"${word}"`).join(", ")}`, value);
    }
    return value;
  }

  /** A table of strings. */
  strings(key: string): Record<string, string> {
    const value = this.#take(key) ?? {};
    if (!isTable(value)) throw this.#expected(key, "a table of strings", value);
    const result: Record<string, string> = {};
    for (const [name, text] of Object.entries(value)) {
      if (typeof text !== "string") throw this.#expected(`${key}.${name}`, "a string", text);
      result[name] = text;
    }
    return result;
  }

  /** A table in its own brackets; undefined when there is none. */
  table(key: string): TableReader | undefined {
    const value = this.#take(key);
    if (value === undefined) return undefined;
    if (!isTable(value)) throw this.#expected(key, `a table, [${key}]`, value);
    return new TableReader(value, `${this.#where}: [${key}]`);
  }

  /** Tables in double brackets. */
  tables(key: string): TableReader[] {
    const value = this.#take(key) ?? [];
    if (!Array.isArray(value) || !value.every(isTable)) throw this.#expected(key, `tables, [[${key}]]`, value);
    return value.map((item, index) => new TableReader(item, `${this.#where}: [[${key}]] number ${index + 1}`));
  }

  /** Call once every key has been read. @throws ConfigError for a key that nobody asked for. */
  end(): void {
    for (const key of Object.keys(this.#table)) {
      if (!this.#known.has(key)) {
        throw this.problem(`unknown key ${key}; known are ${[...this.#known].sort().join(", ")}`);
      }
    }
  }

  problem(text: string): ConfigError {
    return new ConfigError(`${this.#where}: ${text}`);
  }

  #take(key: string): unknown {
    this.#known.add(key);
    return Object.hasOwn(this.#table, key) ? this.#table[key] : undefined;
  }

  #expected(key: string, what: string, value: unknown): ConfigError {
    return this.problem(`${key} must be ${what}, not ${JSON.stringify(value)}`);
  }
}

function isTable(value: unknown): value is Table {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}
