/**
 * Files with what kernels do not carry themselves: types (BTF, ISF), symbols (ISF), and their images to compare them
 * with. To the agent they are bytes: only inspectors look into them.
 */
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { Code, ConnectError } from "@connectrpc/connect";
import { isInXz, withoutXz } from "./kernel-image.ts";

export interface TypeFiles {
  /** For whatever kernel the VM runs: takes the place of its own types. @throws ConnectError */
  given(): Uint8Array | undefined;
  /** For a kernel without types, or without symbols, of its own. @throws ConnectError */
  ofBuild(buildId: string, symbols: boolean): Uint8Array | undefined;
  /** The image of a kernel build, which its text is compared with. @throws ConnectError */
  kernelImage(buildId: string): Promise<Uint8Array | undefined>;
}

/** Bytes of a file, and of what a message to an inspector can hold. */
const maxFile = 512 << 20;
const maxSent = 30 << 20;
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
    given: () => (file === undefined ? undefined : readTypes(file)),
    ofBuild(buildId, symbols) {
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

function readTypes(path: string): Uint8Array {
  const what = `types of ${path}`;
  return sendable(readWhole(path, what), what);
}

/** What the host could unpack of the images in xz that were asked for last, by path, size and time. */
const unpacked = new Map<string, Promise<Uint8Array | undefined>>();
const MAX_UNPACKED = 2;

async function readImage(path: string): Promise<Uint8Array> {
  const what = `kernel image of ${path}`;
  const bytes = readWhole(path, what);
  if (!isInXz(bytes)) return sendable(bytes, what);
  const { size, mtimeMs } = statSync(path);
  const key = `${path} ${size} ${mtimeMs}`;
  const kernel = unpacked.get(key) ?? withoutXz(bytes, maxFile);
  unpacked.delete(key);
  unpacked.set(key, kernel);
  for (const oldest of unpacked.keys()) if (unpacked.size > MAX_UNPACKED) unpacked.delete(oldest);
  // As it is, the inspector says what it can't read, and of what else it can the guest is none the worse.
  return sendable((await kernel) ?? bytes, what);
}

function readWhole(path: string, what: string): Uint8Array {
  try {
    if (statSync(path).size <= maxFile) return readFileSync(path);
  } catch (error) {
    throw failure(what, `can't be read: ${(error as Error).message}`);
  }
  throw failure(what, `the file is larger than ${maxFile >> 20} MiB`);
}

function sendable(bytes: Uint8Array, what: string): Uint8Array {
  // An image is packed already; one that is not (vmlinux) is worth it.
  const isPacked = (bytes[0] === 0x1f && bytes[1] === 0x8b) || (bytes[0] === 0x4d && bytes[1] === 0x5a);
  const packed = bytes.length >= packFrom && !isPacked ? gzipSync(bytes, { level: 1 }) : bytes;
  if (packed.length > maxSent) throw failure(what, `packed it is larger than ${maxSent >> 20} MiB`);
  return packed;
}

function failure(what: string, why: string): ConnectError {
  return new ConnectError(`${what}: ${why}`, Code.FailedPrecondition);
}
