/** What a scanner answers: scans of one guest's memory, one at a time. */
import { setTimeout as sleep } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { InspectorService } from "../../proto/gen/cloudvmi/agent/v1/inspector_pb.ts";
import { GuestService, type ScanRequest, type ScanResponseSchema } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { ScanTarget } from "../../proto/gen/cloudvmi/v1/scan_pb.ts";
import { Budget, type PhysicalMemory, type RegionQuery } from "../../vmi/index.ts";
import { type CallContext, createRoutes, type Routes } from "../../wire/index.ts";
import { createAttachment, since } from "../inspector/attachment.ts";
import { toStatus } from "../inspector/status.ts";
import { BadRules, createRuleCache, type RuleSet } from "./rules.ts";
import { runScan } from "./scan.ts";

const defaultMs = 60_000;
const maxMs = 3_600_000;
/** Before the call's own end, so that the summary still comes through. */
const marginMs = 500;
const defaultMatches = 1000;
const maxMatchesAllowed = 100_000;
const maxNotes = 50;
/** Time is what bounds a scan; each list of the guest's has a bound of its own. */
const steps = 1e12;
/** A scan that its caller has just left ends a moment later. */
const waitMs = 1000;

const targets: Record<ScanTarget, RegionQuery["target"]> = {
  [ScanTarget.UNSPECIFIED]: "processes",
  [ScanTarget.PROCESSES]: "processes",
  [ScanTarget.KERNEL]: "kernel",
  [ScanTarget.PAGE_CACHE]: "page-cache",
  [ScanTarget.PHYSICAL]: "physical",
};

export function scannerRoutes(memory: PhysicalMemory, image = false): Routes<undefined> {
  const attachment = createAttachment(memory, image);
  const rulesOf = createRuleCache();
  let busy = false;

  async function take(): Promise<void> {
    for (const until = performance.now() + waitMs; busy; await sleep(20)) {
      if (performance.now() < until) continue;
      throw new ConnectError(
        "another scan of this VM is under way: try again when it has ended",
        Code.ResourceExhausted,
      );
    }
    busy = true;
  }

  async function* scan(
    request: ScanRequest,
    { signal, timeoutMs = maxMs }: CallContext<undefined>,
  ): AsyncGenerator<MessageInitShape<typeof ScanResponseSchema>> {
    const start = performance.now();
    const query = queryOf(request);
    const limits = limitsOf(request, start + timeoutMs - marginMs);
    const rules = compiled(() => rulesOf(request.rules));
    // From here on the agent hears of the scan, and does not wait for more than a piece of memory at a time.
    yield {};
    const notes = new Set(rules.warnings);
    const note = (text: string) => void (notes.size < maxNotes && notes.add(text));
    const budget = new Budget(limits.deadline - performance.now(), steps);
    try {
      const regions = attachment.ask(undefined, (guest) => guest.regions(query, budget, note));
      for await (const { matches, progress, end } of runScan({ regions, rules, limits, signal })) {
        const summary = end && { vm: attachment.vm, ...end, notes: [...notes], microseconds: since(start) };
        yield { matches: [...matches], progress, ...(summary ? { summary } : {}) };
      }
    } catch (error) {
      throw toStatus(error);
    }
  }

  return createRoutes<undefined>()
    .add(InspectorService, attachment.service)
    .add(GuestService, {
      // Asked by an agent that wants to know whether this process still answers.
      listTables: async () => ({ tables: [] }),
      async *scan(request, context) {
        await take();
        try {
          yield* scan(request, context);
        } finally {
          busy = false;
        }
      },
    });
}

function queryOf({ target, pids }: ScanRequest): RegionQuery {
  const known = targets[target];
  if (known === undefined) throw invalid("there is no such target of a scan");
  if (pids.length > 0 && known !== "processes") throw invalid("pids go with a scan of processes only");
  return { target: known, pids: pids.length > 0 ? new Set(pids) : undefined };
}

function limitsOf({ maxMatches, maxBytes, timeLimitMs }: ScanRequest, callEnds: number) {
  if (maxMatches > maxMatchesAllowed)
    throw invalid(`a scan tells at most ${maxMatchesAllowed} matches, not ${maxMatches}`);
  if (timeLimitMs > maxMs) throw invalid(`a scan takes at most ${maxMs} ms, not ${timeLimitMs}`);
  const deadline = Math.min(performance.now() + (timeLimitMs || defaultMs), callEnds);
  return { matches: maxMatches || defaultMatches, bytes: Number(maxBytes), deadline };
}

function compiled(compile: () => RuleSet): RuleSet {
  try {
    return compile();
  } catch (error) {
    throw error instanceof BadRules ? invalid(error.message) : error;
  }
}

function invalid(text: string): ConnectError {
  return new ConnectError(text, Code.InvalidArgument);
}
