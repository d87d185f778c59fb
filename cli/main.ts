import { enableCompileCache } from "node:module";
import { join } from "node:path";
import { cacheFolder } from "./folders.ts";

// Parsing the code takes most of the time of a short command, so its result is kept, before anything else is loaded.
// Not in Node's own default below /tmp, where others could prepare code for us to run.
enableCompileCache(join(cacheFolder(process.env), "compiled"));

const { start } = await import("./start.ts");
await start();
