import { GuestError } from "../errors.ts";
import { syscallEntries } from "../linux/syscalls.ts";
import { CELL } from "./columns.ts";
import { functionColumns, pushFunction } from "./function-columns.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row an entry of the system call tables. */
export const syscallTable = defineTable({
  name: "syscall_table",
  description:
    "The system call tables. From 6.9 (and in later 5.15, 6.1 and 6.6) the kernel calls by code that compares numbers " +
    "(x64_sys_call): then a table serves tracing only, and a rootkit that changes it gains nothing; see dispatch",
  columns: {
    number: integer("Number of the system call", { key: true }),
    name: text("Its name, for 64-bit programs; not applicable for a number without one and for other tables"),
    address: text("Address of the function"),
    ...functionColumns("the function"),
    expected: integer(
      "1 when the function is the one that the number should have by its name, or none where the kernel lacks the " +
        "system call; 0 when it is another; not applicable where that is not known (tables other than for 64-bit programs, and a function of a number without a name)",
    ),
    abi: text("Whose table: 64 for 64-bit programs, 32 for 32-bit ones (int 0x80), x32", { key: true }),
    dispatch: text("What the kernel calls by: table, or code (then the table is not used for calls)"),
    entry: text("Address of the entry itself"),
  },
  cost: "constant",
  reads: [
    "sys_call_table (until 5.7 with the entries of x32 from 512 on: 6365b842aae4)",
    "ia32_sys_call_table (until 6.8, and earlier 5.15, 6.1 and 6.6: 1e3ad78334a6)",
    "x32_sys_call_table (from 5.8)",
    "x64_sys_call",
  ],
  examples: ["SELECT number, name, address, symbol, module FROM syscall_table WHERE expected = 0"],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const filter = { abis: context.textKeys("abi"), numbers: context.keys("number") };
    const entries = syscallEntries(kernel, filter, budget);
    if (entries === undefined) {
      throw new GuestError(
        "unsupported-kernel",
        `the system call table of ${kernel.release} (sys_call_table) can't be read`,
      );
    }
    for (const { abi, number, name, handler, entry, expected, dispatch } of entries) {
      out.number?.push(number);
      if (name === undefined) out.name?.absent(CELL.notApplicable);
      else out.name?.push(name);
      out.address?.pushAddress(handler.hi, handler.lo);
      pushFunction(out, kernel, handler, budget);
      out.expected?.pushOr(expected === undefined ? undefined : Number(expected), CELL.notApplicable);
      out.abi?.push(abi);
      out.dispatch?.push(dispatch);
      out.entry?.pushAddress(entry.hi, entry.lo);
      if (!context.row()) return;
    }
  },
});
