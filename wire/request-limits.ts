// What one request may cost to decode. A decoder makes objects of some fifty times a hostile request's size, and holds the
// only thread meanwhile, so requests are looked over first.
import { type DescField, type DescMessage, fromBinary, type Message, ScalarType } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

/** What the requests of one method may be at most. */
export interface RequestLimits {
  /** Length, in protobuf and as JSON alike. */
  readonly bytes: number;
  /** Fields and elements of lists, within each other too. */
  readonly values: number;
}

/** Throws ResourceExhausted when a request is over the limits, InvalidArgument when it can't be decoded. */
export function checkRequest(
  path: string,
  schema: DescMessage,
  request: Uint8Array,
  { bytes, values }: RequestLimits,
  json = false,
): void {
  if (request.length > bytes) throw tooLong(path, bytes);
  // A value takes a byte at least.
  if (request.length <= values) return;
  const count = json ? countJson(request) : countValues(schema, request, values);
  if (count === undefined) throw malformed(path);
  if (count > values) {
    throw new ConnectError(`a request of ${path} holds at most ${values} values: ask for less`, Code.ResourceExhausted);
  }
}

/** The request's message. Throws like checkRequest. */
export function decodeRequest(
  path: string,
  schema: DescMessage,
  request: Uint8Array,
  limits: RequestLimits | undefined,
): Message {
  if (limits !== undefined) checkRequest(path, schema, request, limits);
  try {
    return fromBinary(schema, request);
  } catch {
    throw malformed(path);
  }
}

export function tooLong(path: string, bytes: number): ConnectError {
  return new ConnectError(`a request of ${path} has at most ${bytes} bytes: ask for less`, Code.ResourceExhausted);
}

function malformed(path: string): ConnectError {
  return new ConnectError(`the request of ${path} is malformed`, Code.InvalidArgument);
}

/** As many messages within each other as the decoder follows. */
const MAX_DEPTH = 100;
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

/** What must be known of a field to count what is in it. */
interface Field {
  readonly wireType: number;
  /** Of a list whose elements may stand side by side: how each is written. */
  readonly packed: boolean;
  readonly message: DescMessage | undefined;
  readonly map: boolean;
}

/**
 * Values of an encoded message, or some number over `most` once there are more. Undefined: malformed, which includes what
 * the decoder would read otherwise than it is counted here, such as a field that is written as another type.
 */
export function countValues(schema: DescMessage, bytes: Uint8Array, most: number): number | undefined {
  let at = 0;
  let count = 0;

  /** Skips a varint and returns its lowest 32 bits, or -1. */
  function varint(end: number): number {
    let value = 0;
    for (let shift = 0; shift < 70 && at < end; shift += 7) {
      const byte = bytes[at++] as number;
      if (shift < 32) value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value >>> 0;
    }
    return -1;
  }

  /** Skips one value of the type; false when it does not fit. */
  function skip(wireType: number, end: number): boolean {
    if (wireType === VARINT) return varint(end) >= 0;
    if (wireType === BYTES) {
      const length = varint(end);
      if (length < 0) return false;
      at += length;
    } else if (wireType === FIXED64) at += 8;
    else if (wireType === FIXED32) at += 4;
    else return false;
    return at <= end;
  }

  function message(fields: ReadonlyMap<number, Field>, end: number, depth: number): boolean {
    if (depth > MAX_DEPTH) return false;
    while (at < end && count <= most) {
      const tag = varint(end);
      if (tag < 8) return false;
      count++;
      const wireType = tag & 7;
      const field = fields.get(tag >>> 3);
      if (field === undefined || (wireType === field.wireType && wireType !== BYTES)) {
        if (!skip(wireType, end)) return false;
        continue;
      }
      if (wireType !== BYTES || (field.wireType !== BYTES && !field.packed)) return false;
      const length = varint(end);
      const inner = at + length;
      if (length < 0 || inner > end) return false;
      // An entry of a map holds two fields; one that repeats them could hold many.
      if (field.map) count += length;
      if (field.map || (field.message === undefined && !field.packed)) at = inner;
      else if (field.message !== undefined) {
        if (!message(fieldsOf(field.message), inner, depth + 1)) return false;
      } else if (!elements(field.wireType, inner)) return false;
      if (at !== inner && count <= most) return false;
    }
    return true;
  }

  function elements(wireType: number, end: number): boolean {
    for (; at < end && count <= most; count++) if (!skip(wireType, end)) return false;
    return true;
  }

  return message(fieldsOf(schema), bytes.length, 1) ? count : undefined;
}

const known = new WeakMap<DescMessage, ReadonlyMap<number, Field>>();

function fieldsOf(schema: DescMessage): ReadonlyMap<number, Field> {
  let fields = known.get(schema);
  if (fields === undefined) {
    fields = new Map(schema.fields.map((field) => [field.number, shapeOf(field)]));
    known.set(schema, fields);
  }
  return fields;
}

function shapeOf(field: DescField): Field {
  const list = field.fieldKind === "list";
  const kind = list ? field.listKind : field.fieldKind;
  const wireType = kind === "scalar" ? wireTypeOf(field.scalar!) : kind === "enum" ? VARINT : BYTES;
  const message = kind === "message" ? field.message : undefined;
  return { wireType, packed: list && wireType !== BYTES, message, map: kind === "map" };
}

function wireTypeOf(type: ScalarType): number {
  switch (type) {
    case ScalarType.STRING:
    case ScalarType.BYTES:
      return BYTES;
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
    case ScalarType.DOUBLE:
      return FIXED64;
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
    case ScalarType.FLOAT:
      return FIXED32;
    default:
      return VARINT;
  }
}

/** No fewer than the values of a JSON text: what begins an object or a list, or follows a comma, outside of texts. */
export function countJson(text: Uint8Array): number {
  let count = 1;
  let quoted = false;
  for (let at = 0; at < text.length; at++) {
    const byte = text[at];
    if (byte === 0x22) quoted = !quoted;
    else if (quoted) {
      if (byte === 0x5c) at++;
    } else if (byte === 0x2c || byte === 0x7b || byte === 0x5b) count++;
  }
  return count;
}
