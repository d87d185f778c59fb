// What stands before and behind Connect's own handlers: requests are looked over before they are decoded, and a call learns
// when its answer has been written.
import { Code, ConnectError, createContextKey, createContextValues } from "@connectrpc/connect";
import type { UniversalHandler, UniversalServerRequest, UniversalServerResponse } from "@connectrpc/connect/protocol";
import { checkRequest, type RequestLimits, tooLong } from "./request-limits.ts";
import type { Route } from "./routes.ts";

type Body = AsyncIterable<Uint8Array>;
/** What of a route matters here. */
type Guarded = Pick<Route<unknown>, "path" | "limits" | "method">;

/** Bytes before the message of gRPC and of Connect's streams: flags, and the message's length. */
const ENVELOPE_BYTES = 5;

/** How a handler hears that its answer has been written. */
export const answeredKey = createContextKey<(done: () => void) => void>(() => {});

/** The handler of a method, with the limits of its route if it has one. */
export function guarded(handler: UniversalHandler, route: Guarded | undefined): UniversalHandler {
  async function handle(request: UniversalServerRequest): Promise<UniversalServerResponse> {
    const answered = createSignal();
    // An answer to a caller who has left is never written to its end.
    if (request.signal.aborted) answered.give();
    else request.signal.addEventListener("abort", answered.give, { once: true });
    const contextValues = (request.contextValues ?? createContextValues()).set(answeredKey, answered.on);
    const body = route?.limits === undefined ? request.body : looked(request, route, route.limits);
    try {
      const response = await handler({ ...request, body, contextValues });
      if (response.body !== undefined) return { ...response, body: told(response.body, answered.give) };
      answered.give();
      return response;
    } catch (error) {
      answered.give();
      throw error;
    }
  }
  return Object.assign(handle, handler);
}

/** An event that comes once, and is told to those too who ask later. */
function createSignal(): { on(done: () => void): void; give(): void } {
  let waiting: (() => void)[] | undefined = [];
  return {
    on(done) {
      if (waiting === undefined) done();
      else waiting.push(done);
    },
    give() {
      const told = waiting ?? [];
      waiting = undefined;
      for (const done of told) done();
    },
  };
}

/** The next piece is asked for when the last has been written, and the end when all have. */
async function* told(body: Body, done: () => void): Body {
  try {
    yield* body;
  } finally {
    done();
  }
}

/** The body as one piece, once it is known to be within the limits. It is read when it is asked for, not before. */
async function* looked({ body, header }: UniversalServerRequest, route: Guarded, limits: RequestLimits): Body {
  if (!isBody(body)) throw new ConnectError("the body is not a stream of bytes", Code.Internal);
  const type = header.get("content-type") ?? "";
  const before = /grpc|connect\+/i.test(type) ? ENVELOPE_BYTES : 0;
  const bytes = await gather(body, before + limits.bytes, () => tooLong(route.path, limits.bytes));
  if (bytes.length === 0) return;
  const message = bytes.subarray(before);
  if (before > 0 && (bytes.length < before || bytes.readUInt32BE(1) !== message.length)) {
    throw new ConnectError(`a request of ${route.path} is one message, as long as it says`, Code.InvalidArgument);
  }
  checkRequest(route.path, route.method.input, message, limits, /json/i.test(type));
  yield bytes;
}

async function gather(body: Body, most: number, error: () => ConnectError): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  // Not left by a loop's end: that would end an HTTP/1 connection before its client has been told why.
  const iterator = body[Symbol.asyncIterator]();
  for (let step = await iterator.next(); !step.done; step = await iterator.next()) {
    length += step.value.length;
    if (length > most) throw error();
    pieces.push(step.value);
  }
  return Buffer.concat(pieces, length);
}

function isBody(body: UniversalServerRequest["body"]): body is Body {
  return typeof body === "object" && body !== null && Symbol.asyncIterator in body;
}
