// Implementations of services, independent of the protocol that serves them.
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type DescService,
  type Message,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { Encoded } from "./encoded.ts";
import type { RequestLimits } from "./request-limits.ts";

/** Who calls, and until when. */
export interface CallContext<P> {
  /** What `authenticate` returned for the connection. */
  readonly principal: P;
  /** Aborted when the caller cancels, its time is up or its connection breaks. */
  readonly signal: AbortSignal;
  /** Milliseconds that the caller granted when the call began; undefined: no limit. */
  readonly timeoutMs: number | undefined;
  /**
   * Calls back once the answer has been handed to the system, or never will be. At once when it already has, or when it
   * is small beside what waits anyway.
   */
  whenAnswered(done: () => void): void;
}

/** Answers one message, as a message or encoded. ConnectErrors reach the caller with their code and text, others as a bare Internal. */
export type UnaryHandler<I extends DescMessage, O extends DescMessage, P> = (
  request: MessageShape<I>,
  context: CallContext<P>,
) => Promise<MessageInitShape<O> | Encoded>;

/** Answers a stream of messages. It is asked for the next only when the caller and the network have room for it. */
export type StreamHandler<I extends DescMessage, O extends DescMessage, P> = (
  request: MessageShape<I>,
  context: CallContext<P>,
) => AsyncIterable<MessageInitShape<O> | Encoded>;

export type MethodHandler<M extends DescMethod, P> =
  M extends DescMethodUnary<infer I, infer O>
    ? UnaryHandler<I, O, P>
    : M extends DescMethodServerStreaming<infer I, infer O>
      ? StreamHandler<I, O, P>
      : never;

/** The handlers of a service by their method's name. */
export type Implementation<S extends DescService, P> = {
  [K in keyof S["method"]]: MethodHandler<S["method"][K], P>;
};

/** One method with its handler, stripped of its types: the wire knows only descriptors. */
export type Route<P> = { readonly path: string; readonly limits: RequestLimits | undefined } & (
  | {
      readonly kind: "unary";
      readonly method: DescMethodUnary;
      readonly handle: UnaryHandler<DescMessage, DescMessage, P>;
    }
  | {
      readonly kind: "stream";
      readonly method: DescMethodServerStreaming;
      readonly handle: StreamHandler<DescMessage, DescMessage, P>;
    }
);

export interface Routes<P> {
  /** Adds a service. A method left out answers Unimplemented. Throws when the service has been added before. */
  add<S extends DescService>(service: S, implementation: Partial<Implementation<S, P>>): this;
  /** The route of a path such as `cloudvmi.v1.GuestService/ReadTable`. */
  find(path: string): Route<P> | undefined;
  /** Every service with its routes. */
  readonly services: ReadonlyMap<DescService, readonly Route<P>[]>;
}

/** The path of a method on the wire. */
export function pathOf(method: DescMethod): string {
  return `${method.parent.typeName}/${method.name}`;
}

/** @param limitsOf what the requests of the method at a path may be; by default, only the protocols' own limits hold */
export function createRoutes<P>(limitsOf?: (path: string) => RequestLimits): Routes<P> {
  const services = new Map<DescService, readonly Route<P>[]>();
  const paths = new Map<string, Route<P>>();
  return {
    services,
    find: (path) => paths.get(path),
    add(service, implementation) {
      if (services.has(service)) throw new Error(`the service ${service.typeName} has been added already`);
      const routes: Route<P>[] = [];
      const handlers = implementation as Record<string, unknown>;
      for (const method of service.methods) {
        const handler = handlers[method.localName];
        if (typeof handler !== "function") continue;
        // Methods may use `this` when the implementation is an object of a class.
        const handle = handler.bind(implementation);
        const path = pathOf(method);
        const limits = limitsOf?.(path);
        if (isUnary(method)) routes.push({ kind: "unary", path, limits, method, handle });
        else if (isStreaming(method)) routes.push({ kind: "stream", path, limits, method, handle });
        else throw new Error(`${path}: the wire carries no streams from clients`);
      }
      services.set(service, routes);
      for (const route of routes) paths.set(route.path, route);
      return this;
    },
  };
}

function isUnary(method: DescMethod): method is DescMethodUnary {
  return method.methodKind === "unary";
}

function isStreaming(method: DescMethod): method is DescMethodServerStreaming {
  return method.methodKind === "server_streaming";
}

/** Encodes a message, or takes it as it is. Messages may be given by their fields alone. */
export function encodeMessage(schema: DescMessage, message: MessageInitShape<DescMessage> | Encoded): Encoded {
  return message instanceof Encoded ? message : new Encoded(toBinary(schema, create(schema, message) as Message));
}

/**
 * What a caller is told of an error: code and text of a ConnectError, nothing of anything else, which goes to `onError`.
 */
export function publicError(
  error: unknown,
  where: string,
  onError: ((error: unknown, where: string) => void) | undefined,
): ConnectError {
  if (error instanceof ConnectError) return error;
  onError?.(error, where);
  return new ConnectError("internal error; the server's log says more", Code.Internal);
}

/** What a caller is told of a method that is not served. */
export function unimplemented(path: string): ConnectError {
  const name = /^[\w./]{1,200}$/.test(path) ? path : "this method";
  return new ConnectError(`${name} is not served here`, Code.Unimplemented);
}
