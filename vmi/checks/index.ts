import type { Check } from "./check.ts";
import { deletedExecutable } from "./deleted-executable.ts";
import { inventory } from "./inventory.ts";
import { raisedCredentials } from "./raised-credentials.ts";
import { sharedCredentials } from "./shared-credentials.ts";

/** The catalogue. A new check is one file, and one line here. */
export const checks: readonly Check[] = [
  sharedCredentials,
  raisedCredentials,
  deletedExecutable,
  inventory,
];
