/** Scans of one VM with YARA rules: the process that does them is there while it is wanted, and a minute more. */
import { Code, ConnectError } from "@connectrpc/connect";
import { GuestService } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import type { Encoded } from "../wire/index.ts";
import { createInspection, type InspectionOptions } from "./inspection.ts";
import type { Call, InspectorLimits, InspectorMessages } from "./inspector-process.ts";
import { hasYara } from "./sandbox/bubblewrap.ts";

export interface Scans {
  /** @param physical it reads RAM by physical address: then what was untouched when the scanner started matters. */
  scan(request: Encoded, call: Call, physical: boolean): AsyncGenerator<Encoded>;
  /** The guest's memory or kernel is another one now. */
  restart(): void;
  close(): void;
}

/** Rules by the thousand take hundreds of MiB to be compiled. */
const limits: InspectorLimits = { graceMs: 2000, memoryMiB: 1024 };
const idleMs = 60_000;

const words: InspectorMessages = {
  name: "scanner",
  ended: (how) => `the scanner of this VM ended (${how}) while it read the guest; ask again`,
  hung: "the rules took too long on one piece of memory and the scan was ended: leave out slow patterns and loops",
  exhausted:
    "the matches need more memory than a scan may have and it was ended: leave out patterns that match long stretches",
  grown: (memoryMiB) =>
    `the scan used more than ${memoryMiB} MiB and was ended: give fewer rules, or rules that match less`,
};

export function createScans(options: InspectionOptions): Scans {
  // A scan compares no text.
  const types = { ...options.types, kernelImage: async () => undefined };
  const inspection = createInspection({ ...options, types, limits, words });
  let running = 0;
  let idle: NodeJS.Timeout | undefined;
  return {
    async *scan(request, call, physical) {
      if (!hasYara) {
        throw new ConnectError("the host of this VM can't scan: YARA is not installed there", Code.Unimplemented);
      }
      clearTimeout(idle);
      if (physical && running === 0) inspection.restart();
      running++;
      let left = true;
      try {
        yield* inspection.stream(GuestService.method.scan, request, call);
        left = false;
      } catch (error) {
        left = call.signal.aborted;
        throw error;
      } finally {
        running--;
        // Rules may be at one piece of memory for long: what nobody waits for ends with the process.
        if (running === 0 && left) inspection.restart();
        else if (running === 0) idle = setTimeout(() => inspection.restart(), idleMs).unref();
      }
    },
    restart: () => inspection.restart(),
    close() {
      clearTimeout(idle);
      inspection.close();
    },
  };
}
