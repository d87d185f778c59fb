/** RAM of a guest, read as bytes. */
import { read } from "node:fs";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Backing } from "../vmi/index.ts";

/**
 * Reads into `buffer`, and returns how many of the `length` bytes there were: fewer where the hypervisor has unmapped its
 * memory, or cut its file off.
 *
 * @param length more than 0
 * @throws ConnectError FailedPrecondition when the process has ended: what it had would look like holes.
 */
export function readRam(
  { fd, kind }: Backing,
  buffer: Buffer,
  at: number,
  length: number,
  offset: number,
): Promise<number> {
  return new Promise((resolve, reject) => {
    read(fd, buffer, at, length, offset, (error, bytes) => {
      // /proc/PID/mem has an end only when the process has none of its memory any more; what isn't mapped is an error.
      // Source: mem_rw() in fs/proc/base.c.
      if (!error && bytes === 0 && kind === "process")
        reject(new ConnectError("the VM has ended while its memory was read", Code.FailedPrecondition));
      else resolve(error ? 0 : bytes);
    });
  });
}
