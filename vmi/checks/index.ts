import type { Check } from "./check.ts";
import { deletedExecutable } from "./deleted-executable.ts";
import { ebpfPrograms } from "./ebpf-programs.ts";
import { falseName } from "./false-name.ts";
import { injectedMemory } from "./injected-memory.ts";
import { inventory } from "./inventory.ts";
import { packetSockets } from "./packet-sockets.ts";
import { preloadedLibrary } from "./preloaded-library.ts";
import { promiscuousInterface } from "./promiscuous-interface.ts";
import { raisedCredentials } from "./raised-credentials.ts";
import { rawSockets } from "./raw-sockets.ts";
import { sharedCredentials } from "./shared-credentials.ts";
import { taintedModule } from "./tainted-module.ts";
import { tracedProcess } from "./traced-process.ts";

/** The catalogue. A new check is one file, and one line here. */
export const checks: readonly Check[] = [
  sharedCredentials,
  raisedCredentials,
  deletedExecutable,
  injectedMemory,
  falseName,
  preloadedLibrary,
  tracedProcess,
  rawSockets,
  packetSockets,
  promiscuousInterface,
  taintedModule,
  ebpfPrograms,
  inventory,
];
