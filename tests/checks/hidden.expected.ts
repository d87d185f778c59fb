// What the checks for hidden processes and modules find of the lab's tricks.

import type { ExpectedFindings } from "./expected.ts";

export const expected: ExpectedFindings = {
  "hide-process": [
    {
      check: "hidden-process",
      what: /^process \d+ \(busybox\) is missing in the task list\b.* seen in .*the pid numbers/,
    },
  ],
  "hide-process-number": [
    {
      check: "hidden-process",
      what: /^process \d+ \(busybox\) is missing in the pid numbers\b.* seen in the task list/,
    },
  ],
  "hide-module": [
    { check: "hidden-module", what: /^module lab_tricks is missing in the module list\b.* seen in \/sys\/module/ },
    {
      check: "hidden-module-memory",
      what: /^module lab_tricks is in memory, but not in the module list\b.* \d+ bytes/,
    },
  ],
  "hide-module-everywhere": [
    {
      check: "hidden-module",
      what: /^module lab_tricks is missing in the module list, \/sys\/module, the tree of addresses\b/,
    },
    {
      check: "hidden-module-memory",
      what: /^module lab_tricks is in memory, but not in the module list\b.* \d+ bytes/,
    },
  ],
};
