import { inflateSync } from "node:zlib";

/** What the guest answered for one path. */
export type Entry = { kind: "file" | "link"; data: Buffer } | { kind: "error"; errno: number };

/** Reads the archive that lab/guest/control.py makes: by path, in the guest's order. */
export function readArchive(compressed: Uint8Array): Map<string, Entry> {
  const archive = inflateSync(compressed);
  const entries = new Map<string, Entry>();
  for (let at = 0; at < archive.length; ) {
    const nameLength = archive.readUInt16LE(at);
    const kind = archive[at + 2];
    const name = archive.toString("latin1", at + 7, at + 7 + nameLength);
    const start = at + 7 + nameLength;
    const end = start + archive.readUInt32LE(at + 3);
    const data = archive.subarray(start, end);
    if (end > archive.length) throw new Error(`the guest's archive ends within ${name}`);
    if (kind === 2) entries.set(name, { kind: "error", errno: Number(data.toString()) });
    else entries.set(name, { kind: kind === 0 ? "file" : "link", data });
    at = end;
  }
  return entries;
}
