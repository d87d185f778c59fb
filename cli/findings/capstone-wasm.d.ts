// What is used of capstone-wasm 1.0.3: its own declarations are not where its exports lead to.
declare module "capstone-wasm" {
  export function loadCapstone(): Promise<void>;
  export const Const: { readonly CS_ARCH_X86: number; readonly CS_MODE_64: number };
  export class Capstone {
    constructor(arch: number, mode: number);
    /** Throws where no instruction begins with the first byte. Addresses of the answer are signed. */
    disasm(
      data: Uint8Array,
      options: { address: bigint; count: number },
    ): { bytes: Uint8Array; mnemonic: string; opStr: string }[];
  }
}
