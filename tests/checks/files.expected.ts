// Programs whose file is not in a directory.
import type { ExpectedFindings } from "./expected.ts";

export const expected: ExpectedFindings = {
  "deleted-executable": [
    {
      check: "deleted-executable",
      what: /runs a deleted program, \/\S+ \| process \d+ \(\S+\) \| \S+, inode \d+, \d+ bytes$/,
    },
  ],
  "memory-executable": [
    { check: "deleted-executable", what: /runs a program that was never on a disk, \/memfd:\S+ \| / },
  ],
};
