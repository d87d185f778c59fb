/** One entry of an initramfs. Directories above it must come before it. */
export type CpioEntry =
  | { kind: "directory"; path: string }
  | { kind: "file"; path: string; data: Uint8Array; executable?: boolean }
  | { kind: "link"; path: string; target: string }
  | { kind: "character"; path: string; major: number; minor: number };

const modes = { directory: 0o040755, file: 0o100644, link: 0o120777, character: 0o020600 } as const;

/** An archive in cpio's "newc" form, as the kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format.rst). */
export function cpio(entries: readonly CpioEntry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  let inode = 1;
  const add = (path: string, mode: number, data: Uint8Array, device: readonly [number, number]) => {
    const name = Buffer.from(`${path}\0`);
    const fields = [inode++, mode, 0, 0, 1, 0, data.length, 0, 0, device[0], device[1], name.length, 0];
    const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`);
    parts.push(header, name, padding(header.length + name.length), data, padding(data.length));
  };
  for (const entry of entries) {
    const mode = modes[entry.kind] | (entry.kind === "file" && entry.executable ? 0o111 : 0);
    const data = entry.kind === "file" ? entry.data : Buffer.from(entry.kind === "link" ? entry.target : "");
    add(entry.path, mode, data, entry.kind === "character" ? [entry.major, entry.minor] : [0, 0]);
  }
  add("TRAILER!!!", 0, new Uint8Array(), [0, 0]);
  return Buffer.concat(parts);
}

function padding(length: number): Uint8Array {
  return new Uint8Array(-length & 3);
}
