/**
 * Reads something, and hands it on, until nothing that led to it has changed meanwhile; see TableContext.unit, which is one.
 * Walks that visit what comes and goes are given one: whether an element is still there is looked at within.
 *
 * @param what is being read, for people
 * @param read returns whether more is wanted, and may be called again
 */
export type Unit = (what: () => string, read: () => boolean) => boolean;
