/**
 * Reads something, and hands it on, until nothing that led to it has changed meanwhile; see TableContext.unit, which is one.
 * Walks that visit what comes and goes are given one: whether an element is still there is looked at within.
 *
 * @param what is being read, for people
 * @param read returns whether more is wanted, and may be called again; `last` for the last time, when each row counts for
 *   itself: then it looks before each whether what the row is of is still there
 */
export type Unit = (what: () => string, read: (last: boolean) => boolean) => boolean;
