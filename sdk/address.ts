import { Code, ConnectError } from "@connectrpc/connect";

const HIGHEST = (1n << 64n) - 1n;

/** An address as people write it: `0x` with hexadecimal digits, or decimal. Throws InvalidArgument. */
export function parseAddress(text: string): bigint {
  if (!/^(?:0[xX][\da-fA-F]+|\d+)$/.test(text)) {
    throw invalid(`'${text}' is not an address: write hexadecimal, such as 0xffffffff81000000, or a decimal number`);
  }
  return checkAddress(BigInt(text));
}

/** `0x` and 16 digits. */
export function formatAddress(address: bigint): string {
  return `0x${BigInt.asUintN(64, address).toString(16).padStart(16, "0")}`;
}

/** The address, unless it has more than 64 bits or is negative. */
export function checkAddress(address: bigint): bigint {
  if (address >= 0n && address <= HIGHEST) return address;
  throw invalid(`${address < 0n ? "" : "0x"}${address.toString(address < 0n ? 10 : 16)} is not an address of 64 bits`);
}

function invalid(text: string): ConnectError {
  return new ConnectError(text, Code.InvalidArgument);
}
