import { kernelInfo } from "./kernel-info.ts";
import { kernelModules } from "./kernel-modules.ts";
import { memoryMap } from "./memory-map.ts";
import { processEnvs } from "./process-envs.ts";
import { processThreads } from "./process-threads.ts";
import { processes } from "./processes.ts";
import type { Table } from "./table.ts";

/** The catalogue. A new table is one file, and one line here. */
export const tables: readonly Table[] = [processes, processThreads, processEnvs, kernelModules, kernelInfo, memoryMap];
