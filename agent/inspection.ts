/** The inspector of one VM over its life: started when first asked for, attached, and started anew when it has ended. */
import {
  create,
  type DescMessage,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromBinary,
  toBinary,
} from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  type AttachRequest,
  AttachRequestSchema,
  AttachResponseSchema,
  InspectorService,
} from "../proto/gen/cloudvmi/agent/v1/inspector_pb.ts";
import type { GuestMemoryLayout, VcpuRegisters } from "../vmi/index.ts";
import { Encoded } from "../wire/index.ts";
import {
  type Call,
  defaultLimits,
  type InspectorLimits,
  type InspectorMessages,
  type InspectorProcess,
  startInspector,
} from "./inspector-process.ts";
import type { ProfileStore } from "./profiles.ts";
import type { Sandbox } from "./sandbox/layers.ts";
import { maxSent, type TypeFiles } from "./type-files.ts";

/** Guest memory opened for reading; its descriptors are closed on dispose. */
export interface OpenedMemory extends Disposable {
  readonly layout: GuestMemoryLayout;
}

export interface InspectionOptions {
  readonly vm: { readonly uuid: string; readonly incarnation: string };
  readonly sandbox: Sandbox;
  /** The inspector's bundle. */
  readonly program: string;
  readonly profiles: ProfileStore;
  /** Types for a kernel that carries none, and images of kernels to compare them with. */
  readonly types: TypeFiles;
  /** Opens the guest's memory as it is now. @throws ConnectError */
  readonly openRam: () => Promise<OpenedMemory>;
  /** Registers where a monitor tells them; none otherwise. */
  readonly registers: () => Promise<VcpuRegisters[]>;
  readonly log: (line: string) => void;
  readonly limits?: InspectorLimits;
  /** How it is spoken of, where it is no ordinary inspector. */
  readonly words?: InspectorMessages;
}

export interface Inspection {
  unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: Encoded,
    call: Call,
  ): Promise<Encoded>;
  stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: Encoded,
    call: Call,
  ): AsyncIterable<Encoded>;
  /** Ends the inspector: the guest's memory or kernel is another one now. The next request starts another. */
  restart(): void;
  close(): void;
}

/** What finding a kernel may take. */
const attachMs = 20_000;
/** A guest that wasn't understood is looked at again no sooner than this. */
const retryMs = 250;
/** Waits after crashes in a row: the first is for free. */
const crashMs = [0, 500, 1000, 2000, 5000, 10_000, 30_000] as const;
/** An inspector that lived this long has not crashed in a row. */
const healthyMs = 60_000;

export function createInspection(options: InspectionOptions): Inspection {
  const limits = options.limits ?? defaultLimits;
  let running: InspectorProcess | undefined;
  let ready: Promise<InspectorProcess> | undefined;
  let refused: { error: unknown; until: number } | undefined;
  let crashes = 0;
  let lastBuildId: string | undefined;
  let closed = false;
  /** Counts restarts: what was begun before one must not go on after it. */
  let generation = 0;

  /** An inspector that is attached to the guest. @throws ConnectError */
  function inspector(): Promise<InspectorProcess> {
    if (closed) return Promise.reject(new ConnectError("the VM has ended", Code.NotFound));
    if (refused && performance.now() < refused.until) return Promise.reject(refused.error);
    ready ??= open();
    return ready;
  }

  async function open(): Promise<InspectorProcess> {
    const mine = generation;
    try {
      const vcpus = await options.registers();
      const process = await start(mine);
      await attach(process, vcpus);
      refused = undefined;
      return process;
    } catch (error) {
      if (mine !== generation) throw error;
      // A guest that was not understood may be in a moment, with more of its memory in use: then from the beginning.
      restart("the guest was not understood; ask again in a moment");
      const until = performance.now() + retryMs;
      if (!refused || refused.until < until) refused = { error, until };
      throw error;
    }
  }

  async function start(mine: number): Promise<InspectorProcess> {
    using ram = await options.openRam();
    if (closed) throw new ConnectError("the VM has ended", Code.NotFound);
    if (mine !== generation)
      throw new ConnectError("the guest was reset; ask again in a moment", Code.FailedPrecondition);
    const process = startInspector(options.sandbox, options.program, ram.layout, limits, options.words);
    const started = performance.now();
    running = process;
    void process.ended.then((ending) => {
      if (running !== process) return; // ended on purpose
      running = undefined;
      ready = undefined;
      crashes = performance.now() - started > healthyMs ? 1 : crashes + 1;
      const wait = crashMs[Math.min(crashes, crashMs.length) - 1]!;
      if (wait > 0) {
        const text = `${ending.text} in ${wait / 1000} s (it has ended ${crashes} times in a row)`;
        refused = { error: new ConnectError(text, ending.code), until: performance.now() + wait };
      }
      const said = ending.stderr.replaceAll("\n", " | ");
      options.log(`VM ${options.vm.uuid}: ${ending.text}${said ? `; it said: ${said}` : ""}`);
    });
    return process;
  }

  async function attach(process: InspectorProcess, vcpus: readonly VcpuRegisters[]): Promise<void> {
    const ask = async (types: Uint8Array | undefined, image: KernelImage = {}) => {
      const request = create(AttachRequestSchema, {
        vm: options.vm,
        vcpus: vcpus.map(({ index, registers }) => ({ index, registers })),
        profiles: fitting(options.profiles.load(lastBuildId), maxSent - sizeOf(types) - sizeOf(image.kernelImage)),
        types,
        ...image,
      });
      const call = { signal: AbortSignal.timeout(attachMs + limits.graceMs), budgetMs: attachMs };
      const answer = await process.unary(InspectorService.method.attach, encode(request), call);
      return fromBinary(AttachResponseSchema, answer.bytes);
    };
    let types = await options.types.override();
    let answer = await ask(types);
    if (answer.lacks !== "") {
      types = await options.types.forBuildId(answer.buildId, answer.lacksSymbols);
      if (types !== undefined) answer = await ask(types);
    }
    if (answer.lacks !== "") throw new ConnectError(answer.lacks, Code.FailedPrecondition);
    const { buildId, profile } = answer;
    lastBuildId = buildId;
    if (profile.length > 0) options.profiles.save(buildId, profile);
    else options.profiles.used(buildId);
    // Which image it is shows only now; the kernel is known, so that it is found at once.
    const image = await kernelImage(buildId, maxSent - sizeOf(types));
    if (image !== undefined) await ask(types, image);
  }

  /** @param room bytes that it may have. */
  async function kernelImage(buildId: string, room: number): Promise<KernelImage | undefined> {
    try {
      const image = await options.types.kernelImage(buildId);
      if (image === undefined) return undefined;
      if (image.length <= room) return { kernelImage: image };
      const size = `${Math.ceil(image.length / 2 ** 20)} MiB`;
      throw new ConnectError(
        `kernel image: with its ${size} and the types that are given it is too large to be used`,
        Code.FailedPrecondition,
      );
    } catch (error) {
      // One check is without its reference then, and says so. The guest is none the worse.
      const kernelImageProblem = error instanceof ConnectError ? error.rawMessage : String(error);
      options.log(`VM ${options.vm.uuid}: ${kernelImageProblem}`);
      return { kernelImageProblem };
    }
  }

  function restart(reason: string): void {
    const process = running;
    generation++;
    running = undefined;
    ready = undefined;
    process?.kill(reason);
  }

  /** After a failed request: true when the guest has another kernel now, and the request is worth repeating. */
  function changed(error: unknown, process: InspectorProcess): boolean {
    if (!(error instanceof ConnectError && error.code === Code.Aborted)) return false;
    if (running === process) restart("the guest's kernel changed while it was read; ask again in a moment");
    return true;
  }

  return {
    async unary(method, request, call) {
      for (let attempt = 1; ; attempt++) {
        const process = await inspector();
        try {
          return await process.unary(method, request, call);
        } catch (error) {
          if (!changed(error, process)) throw error;
          if (attempt === 2) throw kernelKeptChanging();
        }
      }
    },
    async *stream(method, request, call) {
      for (let attempt = 1; ; attempt++) {
        const process = await inspector();
        let begun = false;
        try {
          for await (const message of process.stream(method, request, call)) {
            begun = true;
            yield message;
          }
          return;
        } catch (error) {
          if (!changed(error, process)) throw error;
          // What has been passed on can't be taken back.
          if (begun || attempt === 2) throw kernelKeptChanging();
        }
      }
    },
    restart() {
      refused = undefined;
      restart("the guest was reset while it was read; ask again in a moment");
    },
    close() {
      closed = true;
      restart("the VM has ended");
    },
  };
}

function kernelKeptChanging(): ConnectError {
  return new ConnectError(
    "the guest's kernel changed while it was read; ask again in a moment",
    Code.FailedPrecondition,
  );
}

/** The image to compare a kernel with, or why there is none. */
interface KernelImage {
  readonly kernelImage?: Uint8Array;
  readonly kernelImageProblem?: string;
}

function sizeOf(bytes: Uint8Array | undefined): number {
  return bytes?.length ?? 0;
}

/** Of profiles in the order of their use, those that there is room for. */
function fitting(profiles: readonly Uint8Array[], room: number): Uint8Array[] {
  const fit: Uint8Array[] = [];
  let left = room;
  for (const profile of profiles) {
    if (profile.length > left) continue;
    fit.push(profile);
    left -= profile.length;
  }
  return fit;
}

function encode(request: AttachRequest): Encoded {
  return new Encoded(toBinary(AttachRequestSchema, request));
}
