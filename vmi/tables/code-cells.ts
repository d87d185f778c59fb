import type { Halves } from "../bytes/address.ts";
import { describeAddress, symbolText } from "../linux/kernel-address.ts";
import { isNull } from "../linux/read.ts";
import { CELL, type TextColumn } from "./columns.ts";
import type { TableContext } from "./table.ts";

/** Writes an address of the kernel's code, the symbol there, and its module; absent for a null pointer. */
export function pushCode(
  { kernel, budget }: TableContext,
  at: Halves | undefined,
  out: { readonly address?: TextColumn; readonly symbol?: TextColumn; readonly module?: TextColumn },
): void {
  if (at === undefined || isNull(at)) {
    const state = at === undefined ? CELL.unreadable : CELL.notApplicable;
    out.address?.absent(state);
    out.symbol?.absent(state);
    out.module?.absent(state);
    return;
  }
  out.address?.pushAddress(at.hi, at.lo);
  const found = (out.symbol ?? out.module) && describeAddress(kernel, at, budget);
  pushText(out.symbol, found && symbolText(found));
  pushText(out.module, found?.module);
}

function pushText(column: TextColumn | undefined, value: string | undefined): void {
  if (value === undefined) column?.absent(CELL.notApplicable);
  else column?.push(value);
}
