/** The guest that an inspector has attached to, and how questions to it are run. */
import { Code, ConnectError } from "@connectrpc/connect";
import type { AttachRequest, InspectorService } from "../../proto/gen/cloudvmi/agent/v1/inspector_pb.ts";
import type { VmId } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { attach, Budget, FileMissing, type Guest, GuestError, type PhysicalMemory } from "../../vmi/index.ts";
import type { Implementation } from "../../wire/index.ts";
import { createIdleCollector } from "./idle-gc.ts";
import { toStatus } from "./status.ts";

/** Work that nobody set a limit to. */
const defaultMs = 10_000;
/** The guest is asked whether it still is the one that was attached to at most this often. */
const recheckMs = 1000;

export interface Attachment {
  readonly vm: VmId | undefined;
  readonly service: Implementation<typeof InspectorService, undefined>;
  /** Runs one question, and tells a guest that has become another one from a question that failed. @throws ConnectError */
  ask<T>(timeoutMs: number | undefined, question: (guest: Guest, budget: Budget) => T): T;
}

/** @param image the memory is a copy, not a guest's that runs. */
export function createAttachment(memory: PhysicalMemory, image: boolean): Attachment {
  let attached: { guest: Guest; vm: VmId | undefined; checked: number } | undefined;
  const worked = createIdleCollector();

  function attachTo(request: AttachRequest): { guest: Guest; microseconds: bigint } {
    const start = performance.now();
    attached = undefined;
    const registers = request.vcpus.map((vcpu) => ({ index: vcpu.index, registers: vcpu.registers }));
    const guest = attach(memory, { registers, profiles: request.profiles, image, ...filesOf(request) });
    attached = { guest, vm: request.vm, checked: performance.now() };
    worked();
    return { guest, microseconds: since(start) };
  }

  return {
    get vm() {
      return attached?.vm;
    },
    ask(timeoutMs, question) {
      if (!attached) throw new ConnectError("the inspector has not been attached to its guest", Code.Internal);
      const { guest } = attached;
      worked();
      try {
        const now = performance.now();
        if (now - attached.checked > recheckMs) {
          if (!guest.isCurrent()) throw changed();
          attached.checked = now;
        }
        return question(guest, new Budget(timeoutMs ?? defaultMs));
      } catch (error) {
        const doubtful = error instanceof GuestError && error.kind === "inconsistent" && !guest.isCurrent();
        throw toStatus(doubtful ? changed() : error);
      }
    },
    service: {
      async attach(request) {
        try {
          const { guest, microseconds } = attachTo(request);
          const { buildId, release } = guest.kernel;
          return { buildId, release, profile: guest.profileWasCached ? undefined : guest.profile, microseconds };
        } catch (error) {
          if (error instanceof FileMissing) {
            const { buildId, message, lacking } = error;
            return { buildId, lacks: message, lacksSymbols: lacking === "symbols" };
          }
          throw toStatus(error);
        }
      },
    },
  };
}

/** Microseconds since a `performance.now()`. */
export function since(start: number): bigint {
  return BigInt(Math.round((performance.now() - start) * 1000));
}

function changed(): GuestError {
  return new GuestError("kernel-changed", "the guest's kernel is no longer the one that was found");
}

function filesOf(request: AttachRequest): { types?: Uint8Array; kernelImage?: Uint8Array | string } {
  const { types } = request;
  const kernelImage = request.kernelImage.length > 0 ? request.kernelImage : request.kernelImageProblem;
  return { ...(types.length > 0 && { types }), ...(kernelImage.length > 0 && { kernelImage }) };
}
