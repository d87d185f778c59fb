/** Which of a guest's RAM has ever been touched, in no more extents than a layout may well have. */

export interface Extent {
  readonly start: number;
  readonly length: number;
}

export interface Populated {
  /** Takes an extent behind all before it. */
  add(gpa: number, length: number): void;
  readonly extents: readonly { readonly gpa: number; readonly length: number }[];
}

/** Holes smaller than this are not worth an extent of their own. */
const smallHole = 64 * 1024;

/** @param most extents; when there are more, ever larger holes are taken for touched. */
export function createPopulated(most = 65_536): Populated {
  let hole = smallHole;
  let extents: { gpa: number; length: number }[] = [];
  const add = (gpa: number, length: number) => {
    const last = extents.at(-1);
    if (last && gpa - (last.gpa + last.length) <= hole) last.length = gpa + length - last.gpa;
    else extents.push({ gpa, length });
  };
  return {
    add(gpa, length) {
      add(gpa, length);
      while (extents.length > most) {
        hole *= 2;
        const before = extents;
        extents = [];
        for (const extent of before) add(extent.gpa, extent.length);
      }
    },
    get extents() {
      return extents;
    },
  };
}
