// Several uses of a table become as few reads as serve them all: also so that a statement sees one state of a table that it
// names twice.
import { Code, ConnectError } from "@connectrpc/connect";
import type { Need, PlannedUse } from "./plan.ts";

export interface Combined {
  readonly needs: readonly Need[];
  /** Use → the number of its need. Uses whose values are not known yet have none. */
  readonly needOfUse: ReadonlyMap<number, number>;
}

interface Group {
  need: Need;
  readonly uses: number[];
}

/** What is read for the uses of a program. Throws InvalidArgument where alternatives can't be read as one. */
export function combined(planned: readonly PlannedUse[]): Combined {
  const byCursor = Map.groupBy(planned, ({ cursor }) => cursor);
  const groups: Group[] = [];
  for (const alternatives of byCursor.values()) {
    const { table } = alternatives[0]!.use;
    const known = alternatives.flatMap(({ need }) => need ?? []);
    if (known.length === 0 && alternatives.length === 1) continue;
    const need = known.length === 0 ? undefined : known.reduce(union);
    const lacks = table.required.length > 0 && !need?.where.some(({ column }) => table.required.includes(column));
    if (need === undefined || known.length < alternatives.length || (lacks && need.vms?.length !== 0)) {
      throw new ConnectError(
        `table ${table.name} needs ${table.required.join(" or ")} given alike on both sides of an OR: ` +
          "write the alternatives as SELECTs with UNION between them",
        Code.InvalidArgument,
      );
    }
    const uses = alternatives.map(({ use }) => use.id);
    const same = groups.find((group) => covers(group.need, need) || covers(need, group.need));
    if (same === undefined) groups.push({ need, uses });
    else {
      same.need = union(same.need, need);
      same.uses.push(...uses);
    }
  }
  return {
    needs: groups.map(({ need }) => need),
    needOfUse: new Map(groups.flatMap(({ uses }, at) => uses.map((use) => [use, at] as const))),
  };
}

/** Whether one reads every row that the other does. */
function covers(wide: Need, narrow: Need): boolean {
  if (wide.table !== narrow.table) return false;
  if (
    wide.limit !== 0 &&
    JSON.stringify([wide.where, wide.vms, wide.limit]) !== JSON.stringify([narrow.where, narrow.vms, narrow.limit])
  ) {
    return false;
  }
  if (wide.vms !== undefined && !narrow.vms?.every((vm) => wide.vms!.includes(vm))) return false;
  return wide.where.every(({ column, values }) =>
    narrow.where.find((each) => each.column === column)?.values.every((value) => values.includes(value)),
  );
}

/** Every row of both, and maybe more. */
function union(one: Need, other: Need): Need {
  const where = one.where.flatMap(({ column, values }) => {
    const same = other.where.find((each) => each.column === column);
    return same === undefined ? [] : [{ column, values: [...new Set([...values, ...same.values])] }];
  });
  return {
    table: one.table,
    columns: [...new Set([...one.columns, ...other.columns])],
    where,
    vms: one.vms === undefined || other.vms === undefined ? undefined : [...new Set([...one.vms, ...other.vms])],
    limit: one.limit !== 0 && covers(one, other) && covers(other, one) ? one.limit : 0,
  };
}
