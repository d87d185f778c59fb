/** Scans of one VM with YARA rules: the process that does them is there while it is wanted, and a minute more. */
import { Code, ConnectError } from "@connectrpc/connect";
import { GuestService } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import type { Encoded } from "../wire/index.ts";
import { createInspection, type InspectionOptions } from "./inspection.ts";
import type { Call, InspectorLimits, InspectorWords } from "./inspector-process.ts";
import { hasYara } from "./sandbox/bubblewrap.ts";

export interface Scans {
  /** @param looksAtAll it reads RAM by physical address: then what was untouched when the scanner started matters. */
  scan(request: Encoded, call: Call, looksAtAll: boolean): AsyncGenerator<Encoded>;
  /** The guest's memory or kernel is another one now. */
  restart(): void;
  close(): void;
}

/** Rules by the thousand take hundreds of MiB to be compiled. */
const limits: InspectorLimits = { graceMs: 2000, memoryMiB: 1024 };
const idleMs = 60_000;

const words: InspectorWords = {
  name: "scanner",
  hung: "the rules took too long on one piece of memory and the scan was ended: leave out slow patterns and loops",
  grown: (memoryMiB) =>
    `the scan used more than ${memoryMiB} MiB and was ended: give fewer rules, or rules that match less`,
};

export function createScans(options: InspectionOptions): Scans {
  const inspection = createInspection({ ...options, limits, words });
  let running = 0;
  let idle: NodeJS.Timeout | undefined;
  return {
    async *scan(request, call, looksAtAll) {
      if (!hasYara()) {
        throw new ConnectError("the host of this VM can't scan: YARA is not installed there", Code.Unimplemented);
      }
      clearTimeout(idle);
      if (looksAtAll && running === 0) inspection.restart();
      running++;
      try {
        yield* inspection.stream(GuestService.method.scan, request, call);
      } finally {
        running--;
        if (running === 0) idle = setTimeout(() => inspection.restart(), idleMs).unref();
      }
    },
    restart: () => inspection.restart(),
    close() {
      clearTimeout(idle);
      inspection.close();
    },
  };
}
