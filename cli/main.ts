import { enableCompileCache } from "node:module";
import { homedir } from "node:os";
import { join } from "node:path";

// Parsing the code takes most of the time of a short command, so its result is kept, before anything else is loaded.
// Not in Node's own default below /tmp, where others could prepare code for us to run.
const cache = process.env.CLOUDVMI_CACHE || join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "cloudvmi");
enableCompileCache(join(cache, "compiled"));

const { start } = await import("./start.ts");
await start();
