import { gunzipSync } from "node:zlib";
import { GuestError } from "../errors.ts";
import { Btf } from "./btf.ts";
import { btfOfIsf } from "./isf.ts";
import { type LinkedSymbols, symbolsOfIsf } from "./isf-symbols.ts";

/** Bytes, unpacked; more is not believed. */
const MAX_FILE = 256 << 20;

/** What a file tells of a kernel build. */
export interface SuppliedFile {
  /** BTF bytes. */
  readonly types: Uint8Array;
  /** Read anew at each call: few kernels need them. Undefined when there are none. Throws GuestError "bad-request". */
  readonly symbols: () => LinkedSymbols | undefined;
}

/** A file with a kernel's types: BTF, or an ISF, which may hold symbols too; gzip is undone. Throws GuestError "bad-request". */
export function suppliedFile(file: Uint8Array): SuppliedFile {
  const bytes = file[0] === 0x1f && file[1] === 0x8b ? unpacked(file) : file;
  if (bytes[0] === 0x9f && bytes[1] === 0xeb) {
    requireWhole(bytes);
    return { types: bytes, symbols: () => undefined };
  }
  if (bytes[0] === 0x7b) return { types: btfOfIsf(bytes), symbols: () => symbolsOfIsf(bytes) };
  const xz = Buffer.from(bytes.subarray(1, 6)).toString("latin1") === "7zXZ\0";
  throw new GuestError(
    "bad-request",
    xz
      ? "types in xz can't be read: unpack the file with `xz -d`"
      : "the types that were supplied are neither BTF nor ISF",
  );
}

/** The same damage in a guest is the kernel's own. */
function requireWhole(bytes: Uint8Array): void {
  try {
    new Btf(bytes);
  } catch (error) {
    if (!(error instanceof GuestError)) throw error;
    throw new GuestError("bad-request", "the types that were supplied are damaged, or BTF of an unknown version");
  }
}

function unpacked(file: Uint8Array): Uint8Array {
  try {
    return gunzipSync(file, { maxOutputLength: MAX_FILE });
  } catch (error) {
    throw new GuestError("bad-request", `the types that were supplied can't be unpacked: ${(error as Error).message}`);
  }
}
