/** The agent of a host: finds its VMs, holds their monitors and memory, and has inspectors read their guests. */
export { type AgentOptions, type RunningAgent, startAgent } from "./agent.ts";
export { type AgentConfig, loadAgentConfig, parseAgentConfig, type VmEntry } from "./config.ts";
export { ConfigError } from "./config-reader.ts";
export { tableSpecs } from "./inspector/catalogue.ts";
export { type LocalGuest, type LocalOptions, type LocalTarget, openLocal } from "./local.ts";
export type { Layer } from "./sandbox/layers.ts";
export { isListening } from "./server.ts";
