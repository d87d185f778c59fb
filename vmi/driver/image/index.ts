/** Memory images: a file whose byte N is the guest's physical byte N. */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import type { GuestMemoryLayout } from "../driver.ts";
import { dataExtents } from "../qemu/native.ts";

/** The file is not a memory image that can be read. The message is one line for people. */
export class ImageError extends Error {
  override readonly name = "ImageError";
}

/** An image opened for reading; the descriptor is closed on dispose. */
export interface OpenedImage extends Disposable {
  readonly layout: GuestMemoryLayout;
}

/** Formats that carry a header, by their first bytes. */
const otherFormats: readonly { magic: Buffer; name: string }[] = [
  { magic: Buffer.from("\x7fELF", "latin1"), name: "an ELF core" },
  { magic: Buffer.from("EMiL", "latin1"), name: "a LiME image" },
  { magic: Buffer.from("AVML", "latin1"), name: "an AVML image" },
  { magic: Buffer.from("KDUMP   ", "latin1"), name: "a kdump image" },
  { magic: Buffer.from("makedumpfile", "latin1"), name: "a flattened kdump image" },
  { magic: Buffer.from("QFI\xfb", "latin1"), name: "a qcow2 disk" },
];

/** @throws ImageError */
export function openImage(path: string): OpenedImage {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    const code: unknown = error instanceof Error ? Reflect.get(error, "code") : undefined;
    const why = code === "ENOENT" ? "no such file" : code === "EACCES" ? "permission denied" : String(error);
    throw new ImageError(`${path}: ${why}`);
  }
  try {
    return { layout: imageLayout(path, fd), [Symbol.dispose]: () => closeSync(fd) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function imageLayout(path: string, fd: number): GuestMemoryLayout {
  const stat = fstatSync(fd);
  if (!stat.isFile()) throw new ImageError(`${path}: not a file`);
  if (stat.size === 0)
    throw new ImageError(`${path}: empty: what should have written it failed: copy the memory again`);
  const head = Buffer.alloc(16);
  readSync(fd, head, 0, head.length, 0);
  for (const { magic, name } of otherFormats) {
    if (head.subarray(0, magic.length).equals(magic)) {
      throw new ImageError(
        `${path}: ${name}: only raw images (offset = physical address) can be read so far; convert it first`,
      );
    }
  }
  if (stat.size % 4096 !== 0) {
    throw new ImageError(
      `${path}: ${stat.size} bytes is not a whole number of 4096-byte pages: truncated, or not a raw memory image`,
    );
  }
  return {
    ranges: [{ gpa: 0, length: stat.size, backing: 0, offset: 0 }],
    backings: [{ kind: "file", fd }],
    populated: Array.from(dataExtents(fd, 0, stat.size), ({ start, length }) => ({ gpa: start, length })),
  };
}
