// What a server of the session protocol can be told, and what it tells.
import type { DescMethod } from "@bufbuild/protobuf";
import type { Hello } from "./payload.ts";

export interface ServeOptions<P> {
  /** Who the client is. A ConnectError refuses it. Called once, when the connection's first frame has come. */
  authenticate(hello: Hello): Promise<P> | P;
  /** Largest message accepted or sent, in bytes; by default 32 MiB. */
  maxMessage?: number;
  /** Asked of each call before its request is looked at. A ConnectError, thrown or rejected with, refuses the call. */
  admit?(principal: P, method: DescMethod): Promise<unknown> | undefined;
  /** Largest request of a client, in bytes, by default as `maxMessage`. */
  maxRequest?(principal: P): number;
  /** Calls at once, by default 256, those too whose answers the client leaves unread. Others are refused with ResourceExhausted. */
  maxCalls?: number;
  /** Bytes of requests held at once by all calls together, by default 64 MiB; those beyond are refused alike. */
  maxRequestBytes?: number;
  /** How long a client may take to introduce itself, by default 10 s. */
  helloTimeoutMs?: number;
  /** How long a client may take nothing of the answers that wait to be written before it is cut off, by default 60 s. */
  stallTimeoutMs?: number;
  /**
   * How long a streamed answer may wait for its caller to consume anything before it ends with ResourceExhausted, by
   * default for ever: whoever passes the answer on to others must wait for them.
   */
  unreadTimeoutMs?: number;
  /** Told of what callers are not: exceptions of handlers. `where` is the method's path, or "connection". */
  readonly onError?: (error: unknown, where: string) => void;
}

/** One client's connection, as the server sees it. */
export interface WireConnection {
  /** Settles, never rejects, when the stream is gone and all of its calls have been aborted. */
  readonly closed: Promise<void>;
  /** Calls whose handlers have not returned yet, or whose answers wait for the client to read. */
  readonly calls: number;
  /** Ends the connection and aborts its calls; the client hears Unavailable. */
  close(): void;
}
