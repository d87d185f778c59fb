// The same implementations served by Connect, gRPC, gRPC-Web and HTTP with JSON.

import type { DescService } from "@bufbuild/protobuf";
import { type DescMessage, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createContextKey,
  type HandlerContext,
  type ServiceImpl,
} from "@connectrpc/connect";
import { ignore } from "./call.ts";
import { answeredKey, guarded } from "./connect-guard.ts";
import { Encoded } from "./encoded.ts";
import { type CallContext, pathOf, publicError, type Route, type Routes } from "./routes.ts";

export interface ConnectOptions {
  /** Told of what callers are not: exceptions of handlers. */
  readonly onError?: (error: unknown, where: string) => void;
}

/**
 * Registers every service of `routes`. `principalOf` says who calls, by the request's headers; a ConnectError refuses.
 * It is asked before anything of the request's body is read.
 */
export function addToConnect<P>(
  router: ConnectRouter,
  routes: Routes<P>,
  principalOf: (context: HandlerContext) => Promise<P> | P,
  options: ConnectOptions = {},
): void {
  const principals = createContextKey<{ readonly value: P } | undefined>(undefined);
  const requestGate = async (context: HandlerContext): Promise<void> => {
    try {
      context.values.set(principals, { value: await principalOf(context) });
    } catch (error) {
      throw publicError(error, pathOf(context.method), options.onError);
    }
  };
  const contextOf = (context: HandlerContext): CallContext<P> => ({
    principal: context.values.get(principals)!.value,
    signal: context.signal,
    timeoutMs: context.timeoutMs(),
    whenAnswered: (done) => context.values.get(answeredKey)(done),
  });
  for (const [service, served] of routes.services) {
    const implementation: Record<string, unknown> = {};
    for (const route of served) implementation[route.method.localName] = adapt(route, contextOf, options);
    const first = router.handlers.length;
    router.service(service, implementation as Partial<ServiceImpl<DescService>>, { requestGate });
    for (let at = first; at < router.handlers.length; at++) {
      const handler = router.handlers[at]!;
      router.handlers[at] = guarded(handler, routes.find(pathOf(handler.method)));
    }
  }
}

function adapt<P>(
  route: Route<P>,
  contextOf: (context: HandlerContext) => CallContext<P>,
  { onError }: ConnectOptions,
): unknown {
  type Request = Parameters<typeof route.handle>[0];
  if (route.kind === "unary") {
    return async (request: Request, context: HandlerContext) => {
      try {
        const answer = route.handle(request, contextOf(context));
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
      iterator = route.handle(request, contextOf(context))[Symbol.asyncIterator]();
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
