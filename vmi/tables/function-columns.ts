import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import type { Kernel } from "../linux/kernel.ts";
import { describeAddress, symbolText } from "../linux/kernel-address.ts";
import { CELL, type TextColumn } from "./columns.ts";
import { type ColumnSpec, text } from "./table.ts";

/** What tables of hooks say of each function that the kernel would call. */
export function functionColumns(what: string): Record<"symbol" | "module", ColumnSpec<"text">> {
  return {
    symbol: text(
      `Symbol at ${what}, as name+0xoffset when it is behind one; not applicable where no symbol table covers it`,
    ),
    module: text(
      "Module that it is in; empty for the kernel's image; not applicable for what is in neither, such as code made at run time",
    ),
  };
}

export function pushFunction(
  out: { readonly symbol: TextColumn | undefined; readonly module: TextColumn | undefined },
  kernel: Kernel,
  at: Halves,
  budget: Budget,
): void {
  if (out.symbol === undefined && out.module === undefined) return;
  const described = describeAddress(kernel, at, budget);
  const symbol = symbolText(described);
  if (symbol === undefined) out.symbol?.absent(CELL.notApplicable);
  else out.symbol?.push(symbol);
  if (described.module !== undefined) out.module?.push(described.module);
  else if (symbol === undefined) out.module?.absent(CELL.notApplicable);
  else out.module?.push("");
}
