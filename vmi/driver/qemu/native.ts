/** The few system calls that Node does not offer. */
import koffi from "koffi";
import type { Extent } from "./populated.ts";

const libc = koffi.load(null);
const lseek = libc.func("int64_t lseek(int fd, int64_t offset, int whence)");
const getsockopt = libc.func(
  "int getsockopt(int fd, int level, int name, _Out_ void *value, _Inout_ uint32_t *length)",
);

const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;

/**
 * Where a sparse file holds data, as extents of bytes inside [start, start + length).
 * A file system that cannot tell says that everything is data.
 */
export function* dataExtents(fd: number, start: number, length: number): Generator<Extent, void> {
  const end = start + length;
  for (let at = start; at < end; ) {
    const data = Number(lseek(fd, at, SEEK_DATA));
    if (data < 0) return; // ENXIO: no data behind this offset
    if (data >= end) return;
    const hole = Math.min(Number(lseek(fd, data, SEEK_HOLE)), end);
    if (hole <= data) {
      yield { start: at, length: end - at };
      return;
    }
    yield { start: data, length: hole - data };
    at = hole;
  }
}

/** The process that listens at the other end of a connected unix socket; 0 when it is not of our pid namespace. */
export function peerPid(socketFd: number): number {
  const credentials = Buffer.alloc(12);
  if (getsockopt(socketFd, SOL_SOCKET, SO_PEERCRED, credentials, [credentials.length]) !== 0) return 0;
  return credentials.readInt32LE(0);
}
