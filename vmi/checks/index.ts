import type { Check } from "./check.ts";
import { deferredCalls } from "./deferred-calls.ts";
import { deletedExecutable } from "./deleted-executable.ts";
import { ebpfPrograms } from "./ebpf-programs.ts";
import { falseName } from "./false-name.ts";
import { ftraceHooks } from "./ftrace-hooks.ts";
import { functionPointers } from "./function-pointers.ts";
import { hiddenModule } from "./hidden-module.ts";
import { hiddenModuleMemory } from "./hidden-module-memory.ts";
import { hiddenProcess } from "./hidden-process.ts";
import { hiddenProcessSlab } from "./hidden-process-slab.ts";
import { injectedMemory } from "./injected-memory.ts";
import { inlineHook } from "./inline-hook.ts";
import { interruptTable } from "./interrupt-table.ts";
import { inventory } from "./inventory.ts";
import { kernelCallbacks } from "./kernel-callbacks.ts";
import { kernelText } from "./kernel-text.ts";
import { kernelThreads } from "./kernel-threads.ts";
import { kprobeHooks } from "./kprobe-hooks.ts";
import { packetSockets } from "./packet-sockets.ts";
import { preloadedLibrary } from "./preloaded-library.ts";
import { promiscuousInterface } from "./promiscuous-interface.ts";
import { raisedCredentials } from "./raised-credentials.ts";
import { rawSockets } from "./raw-sockets.ts";
import { sharedCredentials } from "./shared-credentials.ts";
import { systemCallTable } from "./system-call-table.ts";
import { taintedModule } from "./tainted-module.ts";
import { tracedProcess } from "./traced-process.ts";

/** The catalogue. A new check is one file, and one line here. */
export const checks: readonly Check[] = [
  deletedExecutable,
  inventory,
  hiddenModule,
  hiddenModuleMemory,
  hiddenProcess,
  hiddenProcessSlab,
  systemCallTable,
  interruptTable,
  functionPointers,
  inlineHook,
  kernelText,
  ftraceHooks,
  kprobeHooks,
  kernelCallbacks,
  kernelThreads,
  deferredCalls,
  sharedCredentials,
  raisedCredentials,
  injectedMemory,
  falseName,
  preloadedLibrary,
  tracedProcess,
  rawSockets,
  packetSockets,
  promiscuousInterface,
  taintedModule,
  ebpfPrograms,
];
