/** The life of a process that makes sense of one guest's memory: as long as its agent is there. */
import { writeSync } from "node:fs";
import { type PhysicalMemory, prepare } from "../../vmi/index.ts";
import { type Routes, serveWire } from "../../wire/index.ts";
import { start } from "./start.ts";

/** @param routesOf what is answered, given the memory, and whether that is a copy of a guest's. */
export function run(routesOf: (memory: PhysicalMemory, image: boolean) => Routes<undefined>): void {
  prepare();
  const { memory, layout, agent } = start();
  const image = layout.backings.some(({ kind }) => kind === "file");
  const connection = serveWire(agent, routesOf(memory, image), {
    authenticate: () => undefined,
    onError: (error, where) => {
      writeSync(2, `${where}: ${error instanceof Error ? error.stack : String(error)}\n`);
    },
  });
  // Without its agent it has no purpose.
  void connection.closed.then(() => process.exit(0));
}
