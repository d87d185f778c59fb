import { InvalidArgumentError } from "commander";
import type { Space } from "../sdk/index.ts";

// Parsers of single words of the command line; commander adds which option or argument it was.

const highest = (1n << 64n) - 1n;

/** A number as a person writes it: decimal, 0x…, or the 16 hexadecimal digits of a kernel log. */
function parseNumber(text: string): bigint | undefined {
  if (/^(?:\d+|0[xX][\da-fA-F]+)$/.test(text)) return BigInt(text);
  if (/^[\da-fA-F]{16}$/.test(text)) return BigInt(`0x${text}`);
  return undefined;
}

/** An address, or a kernel symbol with an offset, still to be looked up. */
export type Place = { kind: "address"; address: bigint } | { kind: "symbol"; name: string; offset: bigint };

const placeHelp =
  "Write 0xffffffff81000000, a decimal number, or a kernel symbol such as linux_banner or init_task+0x10.";

export function parsePlace(text: string): Place {
  const address = parseNumber(text);
  if (address !== undefined) {
    if (address > highest) throw new InvalidArgumentError("It is longer than 64 bits.");
    return { kind: "address", address };
  }
  const symbol = /^([A-Za-z_][\w.$]*)(?:([+-])(\d+|0[xX][\da-fA-F]+))?$/.exec(text);
  if (symbol === null) throw new InvalidArgumentError(placeHelp);
  const offset = BigInt(symbol[3] ?? 0);
  return { kind: "symbol", name: symbol[1]!, offset: symbol[2] === "-" ? -offset : offset };
}

export function parsePlaces(text: string, previous: Place[] | undefined): Place[] {
  return [...(previous ?? []), parsePlace(text)];
}

export function parseAddress(text: string): bigint {
  const address = parseNumber(text);
  if (address === undefined || address > highest) {
    throw new InvalidArgumentError("Write an address of at most 64 bits, decimal or 0x….");
  }
  return address;
}

const multiples: Record<string, bigint> = { "": 1n, K: 1n << 10n, M: 1n << 20n, G: 1n << 30n, T: 1n << 40n };

/** 4096, 0x1000, 4K, 16M (powers of 1024). */
export function parseLength(text: string): bigint {
  const match = /^(\d+|0[xX][\da-fA-F]+)([KMGT]?)(?:i?B)?$/i.exec(text);
  const length = match === null ? 0n : BigInt(match[1]!) * multiples[match[2]!.toUpperCase()]!;
  if (length <= 0n || length > highest)
    throw new InvalidArgumentError("Write a length such as 256, 0x1000, 4K or 16M.");
  return length;
}

function integerBetween(low: number, high: number, meaning: string): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= low && value <= high)) throw new InvalidArgumentError(meaning);
    return value;
  };
}

export const parsePid = integerBetween(1, 2 ** 31 - 1, "Write the number of a process.");
export const parseDepth = integerBetween(1, 16, "Write a number of levels from 1 to 16.");
export const parseLimit = integerBetween(1, Number.MAX_SAFE_INTEGER, "Write a number of rows, at least 1.");
export const parseLeaseSeconds = integerBetween(1, 300, "Write a number of seconds from 1 to 300.");

export const parseMatches = integerBetween(1, 100_000, "Write a number of matches from 1 to 100000.");

/** Processes, one each time. */
export function parsePids(text: string, previous: number[] | undefined): number[] {
  return [...(previous ?? []), parsePid(text)];
}

/** Seconds, minutes or an hour: "90s", "10m", "1h". Returns milliseconds. */
export function parseDuration(text: string): number {
  const match = /^(\d{1,6})(s|m|h)?$/.exec(text);
  const seconds =
    match === null ? 0 : Number(match[1]) * { s: 1, m: 60, h: 3600 }[(match[2] ?? "s") as "s" | "m" | "h"];
  if (seconds < 1 || seconds > 3600) throw new InvalidArgumentError("Write a time such as 90s or 10m, up to 1h.");
  return seconds * 1000;
}

/** Days or hours: "30d", "12h". Returns hours. */
export function parseLifetime(text: string): number {
  const match = /^(\d{1,6})([dh])$/.exec(text);
  const hours = match === null ? 0 : Number(match[1]) * (match[2] === "d" ? 24 : 1);
  if (hours < 1 || hours > 366 * 24)
    throw new InvalidArgumentError("Write hours or days, such as 12h or 30d, up to 366d.");
  return hours;
}

/** Where an address is to be understood: kernel, physical, pid:7. */
export function parseSpace(text: string): Space {
  if (text === "kernel" || text === "physical") return text;
  const match = /^pid:(.*)$/.exec(text);
  if (match === null) throw new InvalidArgumentError("It is one of kernel, physical, pid:N.");
  return { pid: parsePid(match[1]!) };
}

/** "a,b" → ["a", "b"]; may be given several times. */
export function parseColumns(text: string, previous: string[] | undefined): string[] {
  const names = text.split(",").map((name) => name.trim());
  if (names.some((name) => name === ""))
    throw new InvalidArgumentError("Write the names with commas between: pid,name.");
  return [...(previous ?? []), ...names];
}

/** column=value; the same column several times means any of the values. */
export type Where = Record<string, string[]>;

export function parseWhere(text: string, previous: Where | undefined): Where {
  const match = /^([A-Za-z]\w*)=(.*)$/s.exec(text);
  if (match === null) throw new InvalidArgumentError("Write column=value.");
  const [column, value] = [match[1]!, match[2]!];
  const before = previous !== undefined && Object.hasOwn(previous, column) ? previous[column]! : [];
  return { ...previous, [column]: [...before, value] };
}
