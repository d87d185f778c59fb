/** The few system calls that Node does not offer. */
import koffi from "koffi";

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
export function dataExtents(fd: number, start: number, length: number): { start: number; length: number }[] {
  const extents: { start: number; length: number }[] = [];
  const end = start + length;
  for (let at = start; at < end; ) {
    const data = Number(lseek(fd, at, SEEK_DATA));
    if (data < 0) break; // ENXIO: no data behind this offset
    if (data >= end) break;
    const hole = Math.min(Number(lseek(fd, data, SEEK_HOLE)), end);
    if (hole <= data) return [{ start, length }];
    extents.push({ start: data, length: hole - data });
    at = hole;
  }
  return extents;
}

/** The process that listens at the other end of a connected unix socket; 0 when it is not of our pid namespace. */
export function peerPid(socketFd: number): number {
  const credentials = Buffer.alloc(12);
  if (getsockopt(socketFd, SOL_SOCKET, SO_PEERCRED, credentials, [credentials.length]) !== 0) return 0;
  return credentials.readInt32LE(0);
}
