import type { Budget } from "../budget.ts";
import { symbol } from "../symbols/specs.ts";
import type { Kernel } from "./kernel.ts";
import { isNull, readNumber, readPointer, sameAddress } from "./read.ts";
import { walkWorks } from "./workqueue.ts";

/** kernel/module/main.c: what modules needed only while they started is freed later, by a work. */
const initFreeList = symbol("?init_free_list");
const doFreeInit = symbol("?do_free_init");
const moduleMutex = symbol("?module_mutex");

/** True while memory of modules is on its way in or out: some of it belongs to none for a moment. */
export function modulesChange(kernel: Kernel, budget: Budget): boolean {
  const { space } = kernel;
  const list = kernel.optionalPlace(initFreeList);
  const first = list && readPointer(space, list);
  if (first !== undefined && !isNull(first)) return true;
  // The first member of a mutex is its owner.
  const mutex = kernel.optionalPlace(moduleMutex);
  if (mutex !== undefined && readNumber(space, mutex) !== 0) return true;
  const free = kernel.optionalPlace(doFreeInit);
  if (free === undefined) return false;
  let found = false;
  walkWorks(
    kernel,
    budget,
    (_, read) => read(false),
    (work) => {
      found ||= sameAddress(work.function, free);
      return !found;
    },
  );
  return found;
}
