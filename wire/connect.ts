// The same implementations served by Connect, gRPC, gRPC-Web and HTTP with JSON.

import type { DescService } from "@bufbuild/protobuf";
import { type DescMessage, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { ignore } from "./call.ts";
import { Encoded } from "./encoded.ts";
import { type CallContext, publicError, type Route, type Routes } from "./routes.ts";

export interface ConnectOptions {
  /** Told of what callers are not: exceptions of handlers. */
  readonly onError?: (error: unknown, where: string) => void;
}

/** Registers every service of `routes`. `principalOf` says who calls, by the request's headers; a ConnectError refuses. */
export function addToConnect<P>(
  router: ConnectRouter,
  routes: Routes<P>,
  principalOf: (context: HandlerContext) => Promise<P> | P,
  options: ConnectOptions = {},
): void {
  for (const [service, served] of routes.services) {
    const implementation: Record<string, unknown> = {};
    for (const route of served) implementation[route.method.localName] = adapt(route, principalOf, options);
    router.service(service, implementation as Partial<ServiceImpl<DescService>>);
  }
}

function adapt<P>(
  route: Route<P>,
  principalOf: (context: HandlerContext) => Promise<P> | P,
  { onError }: ConnectOptions,
): unknown {
  const contextOf = async (context: HandlerContext): Promise<CallContext<P>> => ({
    principal: await principalOf(context),
    signal: context.signal,
    timeoutMs: context.timeoutMs(),
  });
  type Request = Parameters<typeof route.handle>[0];
  if (route.kind === "unary") {
    return async (request: Request, context: HandlerContext) => {
      try {
        const answer = route.handle(request, await contextOf(context));
        return decoded(route.method.output, await orAborted(answer, context.signal));
      } catch (error) {
        throw publicError(error, route.path, onError);
      }
    };
  }
  return async function* (request: Request, context: HandlerContext) {
    let iterator: AsyncIterator<MessageInitShape<DescMessage> | Encoded> | undefined;
    // Connect asks for no more of an answer whose caller has left, so the handler must be told.
    const stop = (): void => void iterator?.return?.()?.then(ignore, ignore);
    try {
      iterator = route.handle(request, await contextOf(context))[Symbol.asyncIterator]();
      context.signal.addEventListener("abort", stop);
      for (let step = await iterator.next(); !step.done; step = await iterator.next()) {
        yield decoded(route.method.output, step.value);
      }
    } catch (error) {
      throw publicError(error, route.path, onError);
    } finally {
      context.signal.removeEventListener("abort", stop);
      stop();
    }
  };
}

function decoded(schema: DescMessage, message: MessageInitShape<DescMessage> | Encoded): MessageInitShape<DescMessage> {
  return message instanceof Encoded ? fromBinary(schema, message.bytes) : message;
}

/** A caller whose time is up is told so even when the handler takes no notice. */
function orAborted<T>(answer: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(ConnectError.from(signal.reason, Code.Canceled));
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort);
    answer.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}
