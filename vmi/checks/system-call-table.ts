import { formatHalves } from "../bytes/address.ts";
import { syscallEntries } from "../linux/syscalls.ts";
import { defineCheck } from "./check.ts";
import { codeOwner } from "./code-owner.ts";

const ALL = { abis: undefined, numbers: undefined };

export const systemCallTable = defineCheck({
  name: "system-call-table",
  severity: "critical",
  cost: "constant",
  compares:
    "Each entry of the system call tables with the function that its number has by name, found in the kernel's symbols; " +
    "and where no name is known here (32-bit programs, x32, numbers of a later kernel or of its own), with the bounds of the " +
    "kernel's text. The tables are constant: no honest software changes them.",
  misses:
    "From 6.9 on (and in later 5.15, 6.1 and 6.6) the kernel calls by code that compares numbers, not by these tables: " +
    "a change of that code is found by kernel-text. A hook within the function that is called is found by inline-hook. " +
    "Where no name is known, an entry that leads to another function of the kernel's is not seen. " +
    "A processor whose MSR_LSTAR leads to another entry than entry_SYSCALL_64 is not seen: monitors do not tell it. " +
    "Old drivers of security software that replace entries are reported.",
  confirm:
    "SELECT number, name, address, symbol, module FROM syscall_table WHERE expected = 0; and read the entry's 8 bytes at " +
    "the address that is told with cloudvmi read.",
  reads: [
    "sys_call_table (until 5.7 with the entries of x32 from 512 on: 6365b842aae4)",
    "ia32_sys_call_table (until 6.8, and earlier 5.15, 6.1 and 6.6: 1e3ad78334a6)",
    "x32_sys_call_table (from 5.8)",
    "kallsyms",
  ],
  look: (context) => {
    const entries = syscallEntries(context.kernel, ALL, context.budget);
    if (entries === undefined) context.incomplete("this kernel's system call table (sys_call_table) can't be found");
    for (const { abi, number, name, handler, entry, expected, dispatch } of entries ?? []) {
      const owner = codeOwner(context, handler);
      if (expected === true || (expected === undefined && owner.kind === "image")) continue;
      const table = abi === "64" ? "" : `, of ${abi === "32" ? "32-bit" : "x32"} programs,`;
      const used = dispatch === "table" ? "" : "; the kernel calls by code, so that only tracing uses this table";
      context.report({
        what: `system call ${number}${name === undefined ? "" : ` (${name})`}${table} goes to ${owner.text}`,
        where: `entry ${number} at ${formatHalves(entry.hi, entry.lo)}`,
        evidence: `${formatHalves(handler.hi, handler.lo)}${used}`,
        expected: name === undefined ? "a function of the kernel's text" : `the kernel's own function for ${name}`,
        identity: `${abi} ${number} ${owner.name}`,
        address: handler,
      });
    }
  },
});
