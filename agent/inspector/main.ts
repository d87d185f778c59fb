/** The inspector of one guest: the only process that makes sense of its memory. */
import { writeSync } from "node:fs";
import { prepare } from "../../vmi/index.ts";
import { serveWire } from "../../wire/index.ts";
import { inspectorRoutes } from "./service.ts";
import { start } from "./start.ts";

prepare();
const { memory, layout, agent } = start();
const image = layout.backings.some(({ kind }) => kind === "file");
const connection = serveWire(agent, inspectorRoutes(memory, image), {
  authenticate: () => undefined,
  onError: (error, where) => {
    writeSync(2, `${where}: ${error instanceof Error ? error.stack : String(error)}\n`);
  },
});
// Without its agent an inspector has no purpose.
void connection.closed.then(() => process.exit(0));
