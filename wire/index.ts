// The session protocol: many protobuf calls at once over one stream, and the same services by Connect.

export { createWireTransport, type WireCallOptions, type WireOptions, type WireTransport } from "./client.ts";
export { addToConnect, type ConnectOptions } from "./connect.ts";
export { Encoded } from "./encoded.ts";
export { connectedPair } from "./pair.ts";
export { type Hello, SESSION_PROTOCOL } from "./payload.ts";
export { type ReusedReads, reusedReads } from "./reads.ts";
export type { RequestLimits } from "./request-limits.ts";
export {
  type CallContext,
  createRoutes,
  type Implementation,
  type MethodHandler,
  pathOf,
  type Route,
  type Routes,
  type StreamHandler,
  type UnaryHandler,
} from "./routes.ts";
export type { ServeOptions, WireConnection } from "./serve-options.ts";
export { serveWire } from "./server.ts";
