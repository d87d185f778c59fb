import koffi from "koffi";

/** The few system calls that Node has no name for. Loaded once, before an inspector gives up the right to load anything. */
const libc = koffi.load("libc.so.6");

export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const MAP_SHARED = 0x01;
export const MAP_PRIVATE = 0x02;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_NORESERVE = 0x4000;

const mmapCall = libc.func("void *mmap(uintptr_t addr, size_t length, int prot, int flags, int fd, int64_t offset)");
const munmapCall = libc.func("int munmap(uintptr_t addr, size_t length)");
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

/** Address of the new mapping. Throws with errno's name. */
export function mmap(address: bigint, length: number, prot: number, flags: number, fd: number, offset: number): bigint {
  const result: bigint = mmapCall(address, length, prot, flags, fd, offset);
  if (result === MAP_FAILED) throw new Error(`mmap of ${length} bytes failed: ${errnoName()}`);
  return result;
}

export function munmap(address: bigint, length: number): void {
  munmapCall(address, length);
}

/** The bytes at an address, for as long as they stay mapped. */
export function viewOf(address: bigint, length: number): ArrayBuffer {
  return koffi.view(address, length);
}

/** Address of a buffer's first byte, for as long as the buffer is there. */
export function addressOf(buffer: SharedArrayBuffer): bigint {
  return koffi.address(new Uint8Array(buffer));
}

function errnoName(): string {
  const errno = koffi.errno();
  return Object.entries(koffi.os.errno).find(([, value]) => value === errno)?.[0] ?? `errno ${errno}`;
}
