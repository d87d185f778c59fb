import { arpCache } from "./arp-cache.ts";
import { bpfLinks } from "./bpf-links.ts";
import { bpfMaps } from "./bpf-maps.ts";
import { cgroups } from "./cgroups.ts";
import { checks } from "./checks.ts";
import { connections } from "./connections.ts";
import { cpuInfo } from "./cpu-info.ts";
import { deletedExecutables } from "./deleted-executables.ts";
import { fileContents } from "./file-contents.ts";
import { findings } from "./findings.ts";
import { ftraceHooks } from "./ftrace-hooks.ts";
import { interfaceAddresses } from "./interface-addresses.ts";
import { interfaceDetails } from "./interface-details.ts";
import { interruptTable } from "./interrupt-table.ts";
import { kernelInfo } from "./kernel-info.ts";
import { kernelLog } from "./kernel-log.ts";
import { kernelModuleParameters } from "./kernel-module-parameters.ts";
import { kernelModuleSections } from "./kernel-module-sections.ts";
import { kernelModules } from "./kernel-modules.ts";
import { kernelParameters } from "./kernel-parameters.ts";
import { kernelSymbols } from "./kernel-symbols.ts";
import { kernelThreads } from "./kernel-threads.ts";
import { kprobes } from "./kprobes.ts";
import { listeningPorts } from "./listening-ports.ts";
import { loadedBpfPrograms } from "./loaded-bpf-programs.ts";
import { memfdFiles } from "./memfd-files.ts";
import { memoryMap } from "./memory-map.ts";
import { mounts } from "./mounts.ts";
import { netfilterHooks } from "./netfilter-hooks.ts";
import { notifierChains } from "./notifier-chains.ts";
import { pageCacheFiles } from "./page-cache-files.ts";
import { processCapabilities } from "./process-capabilities.ts";
import { processCredentials } from "./process-credentials.ts";
import { processEnvs } from "./process-envs.ts";
import { processLibraries } from "./process-libraries.ts";
import { processLimits } from "./process-limits.ts";
import { processMemoryMap } from "./process-memory-map.ts";
import { processNamespaces } from "./process-namespaces.ts";
import { processOpenFiles } from "./process-open-files.ts";
import { processOpenSockets } from "./process-open-sockets.ts";
import { processSignals } from "./process-signals.ts";
import { processThreads } from "./process-threads.ts";
import { processTree } from "./process-tree.ts";
import { processes } from "./processes.ts";
import { ptraceRelations } from "./ptrace-relations.ts";
import { routes } from "./routes.ts";
import { shellHistory } from "./shell-history.ts";
import { syscallTable } from "./syscall-table.ts";
import type { Table } from "./table.ts";
import { time } from "./time.ts";
import { timersAndWorkqueues } from "./timers-and-workqueues.ts";
import { tracepointsAttached } from "./tracepoints-attached.ts";
import { uprobes } from "./uprobes.ts";
import { usersSeen } from "./users-seen.ts";

/** The catalogue. A new table is one file, and one line here. */
export const tables: readonly Table[] = [
  processes,
  processThreads,
  processEnvs,
  processTree,
  kernelThreads,
  processMemoryMap,
  processLibraries,
  processOpenFiles,
  deletedExecutables,
  memfdFiles,
  mounts,
  pageCacheFiles,
  fileContents,
  processCredentials,
  processCapabilities,
  processNamespaces,
  processLimits,
  processSignals,
  kernelModules,
  kernelModuleParameters,
  kernelModuleSections,
  kernelInfo,
  kernelSymbols,
  interruptTable,
  syscallTable,
  notifierChains,
  netfilterHooks,
  timersAndWorkqueues,
  memoryMap,
  bpfLinks,
  bpfMaps,
  loadedBpfPrograms,
  cgroups,
  ptraceRelations,
  ftraceHooks,
  kprobes,
  connections,
  listeningPorts,
  processOpenSockets,
  tracepointsAttached,
  time,
  usersSeen,
  kernelLog,
  uprobes,
  cpuInfo,
  kernelParameters,
  interfaceDetails,
  interfaceAddresses,
  arpCache,
  shellHistory,
  routes,
  findings,
  checks,
];
