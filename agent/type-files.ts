/**
 * Files with what kernels do not carry themselves: types (BTF, ISF), symbols (ISF), and their images to compare them
 * with. To the agent they are bytes: only inspectors look into them.
 */
import { existsSync, type Stats } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { Code, ConnectError } from "@connectrpc/connect";
import { isXz, recompressXz } from "./kernel-image.ts";

export interface TypeFiles {
  /** For whatever kernel the VM runs: takes the place of its own types. @throws ConnectError */
  override(): Promise<Uint8Array | undefined>;
  /** For a kernel without types, or without symbols, of its own. @throws ConnectError */
  forBuildId(buildId: string, symbols: boolean): Promise<Uint8Array | undefined>;
  /** The image of a kernel build, which its text is compared with. @throws ConnectError */
  kernelImage(buildId: string): Promise<Uint8Array | undefined>;
}

/** Bytes of a file, and of what a message to an inspector can hold. */
const maxFile = 512 << 20;
export const maxSent = 30 << 20;
/** From here on packing is worth its time. */
const packFrom = 4 << 20;

const validBuildId = /^[0-9a-f]{8,64}$/;
/** ISF last: it takes longer to read. */
const endings = ["btf", "json", "json.gz"] as const;

/**
 * @param file of one VM
 * @param folder with files named after build ids: BUILDID.btf, BUILDID.json, BUILDID.json.gz, BUILDID.vmlinuz
 * @param image of one VM's kernel
 */
export function typeFiles(file: string | undefined, folder: string | undefined, image?: string): TypeFiles {
  return {
    override: async () => (file === undefined ? undefined : readTypes(file)),
    async forBuildId(buildId, symbols) {
      if (folder === undefined || !validBuildId.test(buildId)) return undefined;
      const found = endings
        .filter((ending) => !symbols || ending !== "btf")
        .map((ending) => join(folder, `${buildId}.${ending}`))
        .find((path) => existsSync(path));
      return found === undefined ? undefined : readTypes(found);
    },
    async kernelImage(buildId) {
      if (image !== undefined) return readImage(image);
      if (folder === undefined || !validBuildId.test(buildId)) return undefined;
      const path = join(folder, `${buildId}.vmlinuz`);
      return existsSync(path) ? readImage(path) : undefined;
    },
  };
}

function readTypes(path: string): Promise<Uint8Array> {
  return kept(path, `types of ${path}`, async (bytes) => bytes);
}

function readImage(path: string): Promise<Uint8Array> {
  return kept(path, `kernel image of ${path}`, async (bytes) => {
    // As it is, the inspector says what it can't read, and of what else it can the guest is none the worse.
    return (isXz(bytes) && (await recompressXz(bytes, maxFile))) || bytes;
  });
}

/** What was sent of the files that were asked for last, by path, size and time: every attachment asks for the same. */
const sent = new Map<string, Promise<Uint8Array>>();
const MAX_KEPT = 4;

/** A file as it is sent: packed anew when it is asked for first, and when it has changed. */
async function kept(
  path: string,
  what: string,
  unpack: (bytes: Uint8Array) => Promise<Uint8Array>,
): Promise<Uint8Array> {
  const found = await statOf(path, what);
  const key = `${what} ${found.size} ${found.mtimeMs}`;
  const sending =
    sent.get(key) ??
    readWhole(path, what)
      .then(unpack)
      .then((bytes) => sendable(bytes, what));
  sent.delete(key);
  sent.set(key, sending);
  for (const oldest of sent.keys()) if (sent.size > MAX_KEPT) sent.delete(oldest);
  try {
    return await sending;
  } catch (error) {
    if (sent.get(key) === sending) sent.delete(key);
    throw error;
  }
}

async function statOf(path: string, what: string): Promise<Stats> {
  const found = await stat(path).catch((error: Error) => {
    throw failure(what, `can't be read: ${error.message}`);
  });
  // A device or a pipe may have no end.
  if (!found.isFile()) throw failure(what, "can't be read: it is not a file");
  if (found.size > maxFile) throw failure(what, `the file is larger than ${maxFile >> 20} MiB`);
  return found;
}

function readWhole(path: string, what: string): Promise<Uint8Array> {
  return readFile(path).catch((error: Error) => {
    throw failure(what, `can't be read: ${error.message}`);
  });
}

async function sendable(bytes: Uint8Array, what: string): Promise<Uint8Array> {
  // An image is packed already; one that is not (vmlinux) is worth it.
  const isPacked = (bytes[0] === 0x1f && bytes[1] === 0x8b) || (bytes[0] === 0x4d && bytes[1] === 0x5a);
  const packed = bytes.length >= packFrom && !isPacked ? await promisify(gzip)(bytes, { level: 1 }) : bytes;
  if (packed.length > maxSent) throw failure(what, `packed it is larger than ${maxSent >> 20} MiB`);
  return packed;
}

function failure(what: string, why: string): ConnectError {
  return new ConnectError(`${what}: ${why}`, Code.FailedPrecondition);
}
