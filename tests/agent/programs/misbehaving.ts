// Started in place of an inspector, behind the same walls: does what a guest might bring an inspector to do. The name of
// the table that is asked for says what.
import { writeSync } from "node:fs";
import { start } from "../../../agent/inspector/start.ts";
import { InspectorService } from "../../../proto/gen/cloudvmi/agent/v1/inspector_pb.ts";
import { GuestService } from "../../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { createRoutes, serveWire } from "../../../wire/index.ts";

const { agent } = start();
const kept: Buffer[] = [];

function spin(ms: number): void {
  for (const end = performance.now() + ms; performance.now() < end; );
}

const behaviours: Record<string, () => void> = {
  answer: () => {},
  slow: () => spin(150),
  hang: () => spin(Number.POSITIVE_INFINITY),
  abort: () => process.abort(),
  exit: () => process.exit(3),
  grow: () => {
    for (;;) {
      kept.push(Buffer.alloc(8 << 20, 1));
      spin(5);
    }
  },
  garbage: () => {
    writeSync(3, Buffer.alloc(64, 0xff));
  },
};

const routes = createRoutes<undefined>()
  .add(InspectorService, { attach: async () => ({ buildId: "0123456789abcdef", release: "test" }) })
  .add(GuestService, {
    listTables: async () => ({}),
    async *readTable({ table }) {
      behaviours[table]!();
      yield { rows: process.pid, summary: { rows: BigInt(Math.trunc(performance.timeOrigin)) } };
    },
  });
const connection = serveWire(agent, routes, { authenticate: () => undefined });
void connection.closed.then(() => process.exit(0));
