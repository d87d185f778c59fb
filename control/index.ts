// The public service: who calls, what it may do, on the record, and to which host it goes.
export {
  type CertificateRequest,
  createAuthority,
  ensureAuthority,
  issueCertificate,
  type KeyPair,
  writeKeyPair,
} from "./certificates.ts";
export { ConfigError, type ControlConfig, loadControlConfig } from "./config.ts";
export { type RunningControl, startControl } from "./control.ts";
export type { Log } from "./log.ts";
export { PolicyError } from "./policy/engine.ts";
