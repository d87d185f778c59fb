/** One running inspector, supervised: it is ended when it hangs or grows, and whoever waited for it learns why. */
import { constants } from "node:os";
import type { DescMessage, DescMethodServerStreaming, DescMethodUnary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { GuestService } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import type { GuestMemoryLayout } from "../vmi/index.ts";
import { createWireTransport, Encoded } from "../wire/index.ts";
import { launch } from "./sandbox/launch.ts";
import type { Sandbox } from "./sandbox/layers.ts";
import { watchProgress } from "./watch.ts";
import { watchMemory } from "./watch-memory.ts";

export interface InspectorLimits {
  /** What an inspector may be late before it is ended. */
  readonly graceMs: number;
  /** Private memory in MiB. */
  readonly memoryMiB: number;
}

export const defaultLimits: InspectorLimits = { graceMs: 2000, memoryMiB: 512 };

export interface Call {
  readonly signal: AbortSignal;
  /** What the request may take. */
  readonly budgetMs: number;
  /** How long after a message of a stream the next may take; absent: once the first is there, the answer is. */
  readonly silenceMs?: number;
}

/** What a process is called, and what callers are told when it was ended. */
export interface InspectorMessages {
  readonly name: string;
  /** @param how such as "signal 11". */
  ended(how: string): string;
  readonly hung: string;
  /** @param memoryMiB the limit. */
  grown(memoryMiB: number): string;
  /** Where Node gives up for lack of memory; by default that is an end like any other. */
  readonly exhausted?: string;
}

const inspectorMessages: InspectorMessages = {
  name: "inspector",
  ended: (how) => `the inspector of this VM ended (${how}) while it read the guest; ask again`,
  hung: "the inspector of this VM did not answer in time and was ended; ask again",
  grown: (memoryMiB) => `the inspector of this VM used more than ${memoryMiB} MiB and was ended; ask for less`,
};

/** Why an inspector ended, in words for the caller of the request that suffered from it. */
export interface Ending {
  readonly code: Code.DataLoss | Code.DeadlineExceeded | Code.FailedPrecondition;
  readonly text: string;
  /** The last lines it wrote, made printable: for the agent's log only, since the guest may have had a hand in them. */
  readonly stderr: string;
}

export interface InspectorProcess {
  /** Settles, never rejects, when the process is gone. */
  readonly ended: Promise<Ending>;
  readonly pid: number | undefined;
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
  /** Ends it for a reason outside of it, which its callers are told. */
  kill(reason: string): void;
}

/** Starts an inspector on a guest's memory. The descriptors may be closed when this returns. */
export function startInspector(
  sandbox: Sandbox,
  program: string,
  layout: GuestMemoryLayout,
  limits: InspectorLimits = defaultLimits,
  words: InspectorMessages = inspectorMessages,
): InspectorProcess {
  const inherited: GuestMemoryLayout = {
    ...layout,
    backings: layout.backings.map(({ kind }, i) => ({ kind, fd: 4 + i })),
  };
  const { child, wire } = launch({
    sandbox,
    program,
    input: JSON.stringify(inherited),
    descriptors: layout.backings.map(({ fd }) => fd),
  });
  let cause: { code: Ending["code"]; text: string } | undefined;
  const end = (code: Ending["code"], text: string) => {
    cause ??= { code, text };
    child.kill("SIGKILL");
  };
  const stderr = tail(child.stderr!, () =>
    end(Code.DataLoss, `the ${words.name} of this VM wrote without end and was ended; ask again`),
  );
  const transport = createWireTransport({ connect: () => wire, client: "agent" });
  const watch = watchProgress(limits.graceMs, () => end(Code.DeadlineExceeded, words.hung));
  const memory = watchMemory(child.pid, limits.memoryMiB, () => end(Code.DataLoss, words.grown(limits.memoryMiB)));
  // A process that ends closes its stream a moment before; one that goes on without has broken the protocol.
  void transport.closed.then(() => {
    const giveUp = () =>
      end(Code.DataLoss, `the ${words.name} of this VM broke off its connection and was ended; ask again`);
    setTimeout(giveUp, limits.graceMs).unref();
  });
  const ended = new Promise<Ending>((resolve) => {
    const settle = (how: string) => {
      watch.close();
      memory.close();
      void transport.close();
      const exhausted = how === `signal ${SIGABRT}` || how === "SIGABRT" ? words.exhausted : undefined;
      const text = exhausted ?? words.ended(how);
      resolve({ ...(cause ?? { code: Code.DataLoss, text }), stderr: stderr() });
    };
    child.once("exit", (code, signal) =>
      settle(signal ?? (code !== null && code > 128 ? `signal ${code - 128}` : `exit code ${code}`)),
    );
    child.once("error", (error) => settle(error.message));
  });

  /** Notes a request; the result is called when it has been answered, or, with false, when the caller has given up on it. */
  function begin(budgetMs: number): (answered: boolean) => void {
    const seen = watch.begin(budgetMs);
    const idle = memory.begin();
    let over = false;
    return (answered) => {
      if (over) return;
      over = true;
      idle();
      if (answered) seen();
      // No answer will come. That it answers another question shows that it does not hang on the one given up.
      else transport.unaryEncoded(GuestService.method.listTables, {}).then(seen, () => {});
    };
  }

  /** The error of a call: of a call that broke off, the end of the process is the reason. */
  async function explain(error: unknown, signal: AbortSignal): Promise<unknown> {
    if (!(error instanceof ConnectError) || signal.aborted) return error;
    const cut = error.code === Code.Unavailable || error.code === Code.Canceled;
    // A bug, or an answer that could not be understood: then the stream is closed about now.
    const strange =
      error.code === Code.Internal &&
      (await withTimeout(
        50,
        transport.closed.then(() => true),
      ));
    if (!cut && !strange) return error;
    const ending = await withTimeout(limits.graceMs + 1000, ended);
    return ending ? new ConnectError(ending.text, ending.code) : error;
  }

  return {
    ended,
    pid: child.pid,
    async unary(method, request, { signal, budgetMs }) {
      const finish = begin(budgetMs);
      try {
        const bytes = await transport.unaryEncoded(method, request, { signal, timeoutMs: budgetMs });
        finish(true);
        return Encoded.received(bytes);
      } catch (error) {
        finish(!gaveUp(error, signal));
        throw await explain(error, signal);
      }
    },
    async *stream(method, request, { signal, budgetMs, silenceMs }) {
      let finish = begin(budgetMs);
      try {
        for await (const bytes of transport.streamEncoded(method, request, { signal, timeoutMs: budgetMs })) {
          // From here on it is the reader who decides how long it takes.
          finish(true);
          yield Encoded.received(bytes);
          if (silenceMs !== undefined) finish = begin(silenceMs);
        }
        finish(true);
      } catch (error) {
        finish(!gaveUp(error, signal));
        throw await explain(error, signal);
      } finally {
        finish(false);
      }
    },
    kill: (reason) => end(Code.FailedPrecondition, reason),
  };
}

/** What V8 ends with when its heap is full. */
const { SIGABRT } = constants.signals;

/** What the promise brings, or undefined after so many milliseconds. */
function withTimeout<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  return Promise.race([promise, new Promise<undefined>((resolve) => setTimeout(resolve, ms, undefined).unref())]);
}

/** True when the error is of the caller's end, and says nothing of the inspector's. */
function gaveUp(error: unknown, signal: AbortSignal): boolean {
  return signal.aborted || (error instanceof ConnectError && error.code === Code.DeadlineExceeded);
}

/** More on the standard error than any inspector has to say. */
const MAX_STDERR = 1 << 20;

/** Keeps the end of what a stream says, and hands it out free of control characters; calls `flooded` when it says too much. */
function tail(stream: NodeJS.ReadableStream, flooded: () => void): () => string {
  const limit = 2000;
  let text = "";
  let said = 0;
  stream.on("data", (chunk: Buffer) => {
    said += chunk.length;
    if (said > MAX_STDERR) flooded();
    else text = (text + chunk.toString("latin1")).slice(-limit);
  });
  return () => text.trim().replaceAll(/[^\x20-\x7e\n]/g, "?");
}
