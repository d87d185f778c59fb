import { bpfLinks } from "./bpf-links.ts";
import { bpfMaps } from "./bpf-maps.ts";
import { cgroups } from "./cgroups.ts";
import { kernelInfo } from "./kernel-info.ts";
import { kernelModuleParameters } from "./kernel-module-parameters.ts";
import { kernelModuleSections } from "./kernel-module-sections.ts";
import { kernelModules } from "./kernel-modules.ts";
import { kernelSymbols } from "./kernel-symbols.ts";
import { loadedBpfPrograms } from "./loaded-bpf-programs.ts";
import { memoryMap } from "./memory-map.ts";
import { processCapabilities } from "./process-capabilities.ts";
import { processCredentials } from "./process-credentials.ts";
import { processEnvs } from "./process-envs.ts";
import { processLimits } from "./process-limits.ts";
import { processMemoryMap } from "./process-memory-map.ts";
import { processNamespaces } from "./process-namespaces.ts";
import { processOpenFiles } from "./process-open-files.ts";
import { processSignals } from "./process-signals.ts";
import { processThreads } from "./process-threads.ts";
import { processes } from "./processes.ts";
import { ptraceRelations } from "./ptrace-relations.ts";
import type { Table } from "./table.ts";

/** The catalogue. A new table is one file, and one line here. */
export const tables: readonly Table[] = [
  processes,
  processThreads,
  processEnvs,
  processMemoryMap,
  processOpenFiles,
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
  memoryMap,
  bpfLinks,
  bpfMaps,
  loadedBpfPrograms,
  cgroups,
  ptraceRelations,
];
