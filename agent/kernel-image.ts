/** Images of kernels in xz, which nothing here reads: the host's own xz unpacks them, as the kernel's scripts do. */
import { spawn } from "node:child_process";
import { promisify } from "node:util";
import { gzip } from "node:zlib";

const XZ = Buffer.from("fd377a585a00", "hex");
/** "MZ": a boot image, which the packed kernel is within. */
const BOOT_IMAGE = Buffer.from("4d5a", "hex");

export function isInXz(image: Uint8Array): boolean {
  const bytes = Buffer.from(image.buffer, image.byteOffset, image.byteLength);
  return bytes.subarray(0, BOOT_IMAGE.length).equals(BOOT_IMAGE) && bytes.includes(XZ);
}

/**
 * The kernel within an image, packed with gzip instead.
 *
 * @param most bytes that it may have when it is unpacked
 * @throws Error in one line
 */
export async function withoutXz(image: Uint8Array, most: number): Promise<Uint8Array> {
  const packed = Buffer.from(image.buffer, image.byteOffset, image.byteLength);
  const child = spawn("xz", ["--decompress", "--single-stream", "--stdout", "--quiet"], {
    stdio: ["pipe", "pipe", "ignore"],
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on("error", () => reject(new Error("it is packed with xz, and this host has no xz: install xz-utils")));
    child.on("close", resolve);
  });
  // What is behind the stream it does not read.
  child.stdin.on("error", () => {});
  child.stdin.end(packed.subarray(packed.indexOf(XZ)));
  const pieces: Buffer[] = [];
  let size = 0;
  child.stdout.on("data", (piece: Buffer) => {
    size += piece.length;
    if (size > most) child.kill();
    else pieces.push(piece);
  });
  const status = await ended;
  if (size > most) throw new Error(`unpacked it is larger than ${most >> 20} MiB`);
  if (status !== 0) throw new Error("it is packed with xz, and damaged: xz can't unpack it");
  return promisify(gzip)(Buffer.concat(pieces), { level: 1 });
}
