import type { Capstone } from "capstone-wasm";

/** One instruction, or a byte that begins none. */
export interface Instruction {
  readonly address: bigint;
  readonly bytes: Uint8Array;
  readonly text: string;
}

/** The first instructions of x86-64 code that lies at an address. */
export type Disassemble = (at: bigint, code: Uint8Array, count: number) => Instruction[];

/** Loads the disassembler, a megabyte and more of WebAssembly: for findings with code only. */
export async function loadDisassembler(): Promise<Disassemble> {
  const { Capstone: Decoder, Const, loadCapstone } = await import("capstone-wasm");
  await loadCapstone();
  const capstone = new Decoder(Const.CS_ARCH_X86, Const.CS_MODE_64);
  return (at, code, count) => {
    const found: Instruction[] = [];
    for (let done = 0; done < code.length && found.length < count; ) {
      const address = BigInt.asUintN(64, at + BigInt(done));
      const rest = code.subarray(done);
      const next = decode(capstone, address, rest);
      found.push(next ?? { address, bytes: rest.subarray(0, 1), text: `.byte 0x${hex(rest.subarray(0, 1))}` });
      done += next?.bytes.length ?? 1;
    }
    return found;
  };
}

function decode(capstone: Capstone, address: bigint, code: Uint8Array): Instruction | undefined {
  try {
    const [first] = capstone.disasm(code, { address, count: 1 });
    if (first === undefined) return undefined;
    return { address, bytes: Uint8Array.from(first.bytes), text: `${first.mnemonic} ${first.opStr}`.trim() };
  } catch {
    // That is how it says that no instruction begins there.
    return undefined;
  }
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
