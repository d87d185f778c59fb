// What the guest says of its network namespaces, and what its sockets are compared by.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Subject } from "../engine/support.ts";

/** A message of rtnetlink: its fixed part, and attributes by number. */
export type Message = readonly [header: Buffer, attributes: ReadonlyMap<number, Buffer>];

export interface NamespaceTruth {
  /** Of /proc/net. */
  readonly files: Readonly<Record<string, string>>;
  readonly link: readonly Message[];
  readonly address: readonly Message[];
  readonly route: readonly Message[];
  readonly neighbour: readonly Message[];
}

const script = readFileSync(join(import.meta.dirname, "network-truth.py"), "utf8");

/** Of each network namespace, by its inode number. */
export async function networkTruth(subject: Subject): Promise<Map<number, NamespaceTruth>> {
  const output = await subject.lab.exec(`python3 -I -S - <<'END'\n${script}\nEND`);
  const parsed = JSON.parse(output) as Record<string, Record<string, unknown>>;
  const messages = (value: unknown): Message[] =>
    (value as [string, Record<string, string>][]).map(([header, attributes]) => [
      Buffer.from(header, "hex"),
      new Map(Object.entries(attributes).map(([name, hex]) => [Number(name), Buffer.from(hex, "hex")])),
    ]);
  const found = new Map<number, NamespaceTruth>();
  for (const [inode, value] of Object.entries(parsed)) {
    found.set(Number(inode), {
      files: value.files as Record<string, string>,
      link: messages(value.link),
      address: messages(value.address),
      route: messages(value.route),
      neighbour: messages(value.neighbour),
    });
  }
  assert.ok(found.size >= 4, `${found.size} network namespaces`);
  return found;
}

/** What was read between two looks at the truth, which must be the same. */
export async function between<T, R>(truth: () => Promise<T>, read: () => R): Promise<{ truth: T; result: R }> {
  const before = await truth();
  const result = read();
  assert.deepEqual(await truth(), before, "the guest's network changed meanwhile");
  return { truth: before, result };
}

/**
 * Things that change by themselves, each as it was before the table was read or as it was after.
 *
 * @param actual by name, what the table says of each; `before` and `after` likewise, of the guest
 */
export function assertOneOf(
  actual: ReadonlyMap<string, string>,
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
): void {
  const names = new Set([...actual.keys(), ...before.keys(), ...after.keys()]);
  const differing = [...names].filter((name) => {
    const value = actual.get(name);
    return value !== before.get(name) && value !== after.get(name);
  });
  const told = (of: ReadonlyMap<string, string>) => differing.map((name) => `${name}: ${of.get(name) ?? "none"}`);
  assert.deepEqual(told(actual), told(before));
}

/** Lines of a file of /proc/net, without its heading, in words. */
export function linesOf(text: string, heading = 1): string[][] {
  return text
    .split("\n")
    .slice(heading)
    .filter((line) => line.trim() !== "")
    .map((line) => line.trim().split(/\s+/));
}

/** An address as /proc/net/tcp writes it: words in the processor's order. */
export function procAddress(hex: string): string {
  const bytes = Buffer.from(hex, "hex");
  for (let i = 0; i < bytes.length; i += 4) bytes.subarray(i, i + 4).reverse();
  return addressText(bytes);
}

/** An address in network order, as inet_ntop() writes it, told independently of the engine. */
export function addressText(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join(".");
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(i * 2));
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff)
    return `::ffff:${bytes.subarray(12).join(".")}`;
  // A URL's host is written by the same rules.
  return new URL(`http://[${groups.map((group) => group.toString(16)).join(":")}]/`).hostname.slice(1, -1);
}
