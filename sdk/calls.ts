// Calls of streamed answers over any transport.
import {
  type DescMessage,
  type DescMethodServerStreaming,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import type { WireTransport } from "../wire/index.ts";

/** Whether answers can be had as bytes, which spares their decoding into messages. */
export function isWire(transport: Transport): transport is WireTransport {
  return "streamEncoded" in transport;
}

/**
 * The messages of a streamed answer. Leaving the loop cancels the call, which Connect's own client does not do.
 *
 * @param reuse a message's bytes are good only until the next is asked for
 */
export async function* streamMessages<I extends DescMessage, O extends DescMessage>(
  transport: Transport,
  method: DescMethodServerStreaming<I, O>,
  request: MessageInitShape<I>,
  signal: AbortSignal | undefined,
  reuse = false,
): AsyncGenerator<MessageShape<O>> {
  if (isWire(transport)) {
    for await (const bytes of transport.streamEncoded(method, request, { signal })) {
      yield decoded(method.output, bytes);
      if (reuse) transport.recycle(bytes);
    }
    return;
  }
  const leaving = new AbortController();
  const either = signal === undefined ? leaving.signal : AbortSignal.any([signal, leaving.signal]);
  try {
    const answer = await transport.stream(method, either, undefined, undefined, once(request));
    for await (const message of answer.message) yield message as MessageShape<O>;
  } finally {
    leaving.abort(new ConnectError("the answer is not wanted any more", Code.Canceled));
  }
}

function decoded<O extends DescMessage>(schema: O, bytes: Uint8Array): MessageShape<O> {
  try {
    return fromBinary(schema, bytes);
  } catch {
    throw new ConnectError("the service's answer is malformed", Code.Internal);
  }
}

async function* once<T>(value: T): AsyncGenerator<T> {
  yield value;
}
