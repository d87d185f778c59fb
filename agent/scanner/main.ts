/**
 * The scanner of one guest: an inspector that looks through memory with YARA rules. A process of its own, since it runs what
 * tenants wrote, machine code that was made of it included, and may take minutes.
 */
import { run } from "../inspector/run.ts";
import { scannerRoutes } from "./service.ts";

run(scannerRoutes);
