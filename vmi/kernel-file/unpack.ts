import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { GuestError } from "../errors.ts";
import { unpackLz4 } from "./lz4.ts";

/**
 * A kernel image as it is installed: a boot image (Documentation/arch/x86/boot.rst) with the kernel packed inside, which
 * is the linked kernel (ELF) and the list of its relocations (arch/x86/tools/relocs.c).
 */

/** Bytes, unpacked: Debian's have 60 MiB. More is not believed. */
const MAX_KERNEL = 512 << 20;

/** Places in the boot image's header. */
const SETUP_SECTS = 0x1f1;
const HEADER_MAGIC = 0x202;
const VERSION = 0x206;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const SECTOR = 512;
const DEFAULT_SETUP_SECTS = 4;
const HDRS = 0x53726448;
/** The payload's place is in the header from protocol 2.08 on (87253d1b4f4e, 2.6.26). */
const WITH_PAYLOAD = 0x208;

const ELF = 0x464c457f;
const GZIP = 0x8b1f;
const ZSTD = 0xfd2fb528;
const LZ4 = 0x184c2102;
const OTHERS: readonly (readonly [number, string])[] = [
  [0x587a37fd, "xz"],
  [0x0000005d, "LZMA"],
  [0x4f5a4c89, "LZO"],
  [0x39685a42, "bzip2"],
];

/** The linked kernel, with the relocations behind it where there are any. Throws GuestError "bad-request". */
export function unpackKernel(file: Uint8Array): Uint8Array {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < 0x1000) throw unknown();
  if (view.getUint32(0, true) === ELF) return file;
  if (view.getUint32(HEADER_MAGIC, true) !== HDRS) {
    // A linked kernel may be packed as a whole.
    const inner = unpack(file);
    if (inner === undefined) throw unknown();
    return inner;
  }
  if (view.getUint16(VERSION, true) < WITH_PAYLOAD) throw unknown();
  const start = ((file[SETUP_SECTS] || DEFAULT_SETUP_SECTS) + 1) * SECTOR + view.getUint32(PAYLOAD_OFFSET, true);
  const payload = file.subarray(start, start + view.getUint32(PAYLOAD_LENGTH, true));
  if (payload.length < 8) throw unknown();
  const inner = unpack(payload);
  if (inner === undefined) throw unknown();
  return inner;
}

/** What the kernel's build puts behind what it has packed (scripts/Makefile.lib: size_append). */
function sizeBehind(packed: Uint8Array): number {
  return new DataView(packed.buffer, packed.byteOffset + packed.length - 4, 4).getUint32(0, true);
}

/** Undefined for what is packed in no known way. */
function unpack(packed: Uint8Array): Uint8Array | undefined {
  const magic = new DataView(packed.buffer, packed.byteOffset, 4).getUint32(0, true);
  const limit = { maxOutputLength: MAX_KERNEL };
  try {
    if ((magic & 0xffff) === GZIP) return gunzipSync(packed, limit);
    // The size is behind the frame, which it is no part of.
    if (magic === ZSTD) return zstdDecompressSync(packed.subarray(0, packed.length - 4), limit);
    if (magic === LZ4 && sizeBehind(packed) <= MAX_KERNEL)
      return unpackLz4(packed.subarray(0, packed.length - 4), sizeBehind(packed));
  } catch (error) {
    if (error instanceof GuestError) throw error;
    throw new GuestError(
      "bad-request",
      `the kernel image that was supplied can't be unpacked: ${(error as Error).message}`,
    );
  }
  const other = OTHERS.find(([known]) => known === magic)?.[1];
  if (other === undefined) return undefined;
  throw new GuestError(
    "bad-request",
    `the kernel image that was supplied is packed with ${other}, which can't be read: ` +
      (other === "xz" ? "install xz on the host (xz-utils), or " : "") +
      "unpack it with the kernel's scripts/extract-vmlinux and give what comes out",
  );
}

function unknown(): GuestError {
  return new GuestError(
    "bad-request",
    "the kernel image that was supplied is neither a boot image (vmlinuz) nor ELF (vmlinux)",
  );
}
