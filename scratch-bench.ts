import { bootGuest } from "./lab/index.ts";
import { measureScan } from "./bench/engine.ts";
import { printFigures } from "./bench/figures.ts";
await using guest = await bootGuest({ kernel: "6.12", memoryMiB: 1024, workload: "full", extraTasks: 160 });
printFigures(await measureScan(guest, console.log));
