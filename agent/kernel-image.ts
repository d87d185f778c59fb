/** Images of kernels in xz, which nothing here reads: the host's own xz unpacks them, as the kernel's scripts do. */
import { spawn } from "node:child_process";
import { promisify } from "node:util";
import { gzip } from "node:zlib";

const XZ = Buffer.from("fd377a585a00", "hex");
/** "MZ": a boot image, which the packed kernel is within. */
const BOOT_IMAGE = Buffer.from("4d5a", "hex");
/** The kernel's build packs with a dictionary of 32 MiB (scripts/xz_wrap.sh). */
const MEMORY = "--memlimit-decompress=256MiB";
const MAX_MS = 60_000;

export function isXz(image: Uint8Array): boolean {
  const bytes = Buffer.from(image.buffer, image.byteOffset, image.byteLength);
  return bytes.subarray(0, BOOT_IMAGE.length).equals(BOOT_IMAGE) && bytes.includes(XZ);
}

/**
 * The kernel within an image, packed with gzip instead.
 *
 * @param most bytes that it may have when it is unpacked
 * @returns undefined where the host has no xz, or that can't unpack it
 */
export async function recompressXz(image: Uint8Array, most: number): Promise<Uint8Array | undefined> {
  const packed = Buffer.from(image.buffer, image.byteOffset, image.byteLength);
  const kernel = await unpacked(packed.subarray(packed.indexOf(XZ)), most);
  return kernel && promisify(gzip)(kernel, { level: 1 });
}

function unpacked(packed: Buffer, most: number): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const child = spawn("xz", ["--decompress", "--single-stream", "--stdout", "--quiet", MEMORY], {
      stdio: ["pipe", "pipe", "ignore"],
      env: { PATH: process.env.PATH },
      timeout: MAX_MS,
    });
    child.on("error", () => resolve(undefined));
    const pieces: Buffer[] = [];
    let size = 0;
    child.on("close", (status) => resolve(status === 0 && size <= most ? Buffer.concat(pieces) : undefined));
    child.stdout?.on("data", (piece: Buffer) => {
      size += piece.length;
      if (size > most) child.kill();
      else pieces.push(piece);
    });
    // What is behind the stream it does not read.
    child.stdin?.on("error", () => {});
    child.stdin?.end(packed);
  });
}
