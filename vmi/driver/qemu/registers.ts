/**
 * vCPU registers from the text of `info registers -a`.
 * Source: x86_cpu_dump_state() in target/i386/cpu-dump.c of QEMU. 32-bit and 16-bit vCPUs print EAX instead of
 * RAX; both come out under the 64-bit names. KERNEL_GS_BASE is not printed by QEMU and so is absent.
 */
import type { VcpuRegisters } from "../driver.ts";

const general = new Set(["ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "ip"]);
const segments = new Set(["es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr"]);

export function parseRegisters(text: string): VcpuRegisters[] {
  const vcpus: VcpuRegisters[] = [];
  for (const part of text.split(/^CPU#/m).slice(1)) {
    const registers: Record<string, bigint> = {};
    for (const row of part.split(/\r?\n/).slice(1)) parseRow(row, registers);
    vcpus.push({ index: Number.parseInt(part, 10), registers });
  }
  return vcpus;
}

function parseRow(row: string, registers: Record<string, bigint>): void {
  const table = /^([A-Z]{2,3}) *= *([0-9a-f]+) ([0-9a-f]+)(?: ([0-9a-f]+) ([0-9a-f]+))?/.exec(row);
  const name = table?.[1]?.toLowerCase();
  if (table && name && segments.has(name) && table[4]) {
    registers[name] = hex(table[2]!);
    registers[`${name}_base`] = hex(table[3]!);
    registers[`${name}_limit`] = hex(table[4]);
    return;
  }
  if (table && (name === "gdt" || name === "idt")) {
    registers[`${name}r_base`] = hex(table[2]!);
    registers[`${name}r_limit`] = hex(table[3]!);
    return;
  }
  // Vector and x87 state says nothing of the kernel.
  if (/^(?:FCW|FPR|XMM|YMM|ZMM|Opmask|CC[SDO])/.test(row)) return;
  for (const [, key, value] of row.matchAll(/\b([A-Z][A-Z0-9]+) *=([0-9a-f]+)\b/g)) {
    const known = rename(key!);
    if (known) registers[known] = hex(value!);
  }
}

function rename(key: string): string | undefined {
  const lower = key.toLowerCase();
  const tail = lower.slice(1);
  if ((lower[0] === "r" || lower[0] === "e") && general.has(tail)) return `r${tail}`;
  if (lower === "rfl" || lower === "efl") return "rflags";
  if (/^(?:r(?:8|9|1[0-5])|cr[0-8]|dr[0-7]|efer)$/.test(lower)) return lower;
  return undefined;
}

function hex(text: string): bigint {
  return BigInt(`0x${text}`);
}
