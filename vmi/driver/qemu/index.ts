/** The QEMU driver: monitors, registers and RAM of guests of an unpatched QEMU. */
export { parseCommandLine, type QemuCommandLine } from "./command-line.ts";
export { monitorPid, type QemuVm, queryStatus, queryVm, readRegisters } from "./identity.ts";
export { readArguments, readStartTime, readWorkingDirectory } from "./process.ts";
export { Qmp, QmpError, type QmpEvent } from "./qmp.ts";
export { findRam, findRamWithoutMonitor, type OpenedRam, RamError } from "./ram.ts";
