/** The inspector of one guest: with its scanner, the only process that makes sense of its memory. */
import { run } from "./run.ts";
import { inspectorRoutes } from "./service.ts";

run(inspectorRoutes);
