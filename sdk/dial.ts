// TLS to the service, with errors that people can act on.
import { isIP } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { Code, ConnectError } from "@connectrpc/connect";
import { reusedReads, SESSION_PROTOCOL } from "../wire/index.ts";

const DIAL_TIMEOUT_MS = 10_000;

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** The host and port of an `https://` URL. Throws InvalidArgument. */
export function addressOf(url: string): Address {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed === undefined || parsed.protocol !== "https:" || parsed.hostname === "") {
    throw new ConnectError(`'${url}' is not the address of a service: write https://HOST:PORT`, Code.InvalidArgument);
  }
  return {
    host: parsed.hostname.replace(/^\[(.*)\]$/, "$1"),
    port: parsed.port === "" ? 443 : Number(parsed.port),
  };
}

/** An address as people write it. */
export function nameOf({ host, port }: Address): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
}

/** A socket that has proved whom it reaches and agreed on the session protocol. `ca`: the only authority trusted, PEM. */
export function dialSession({ host, port }: Address, ca: string | undefined): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const reads = reusedReads();
    const socket = connectTls({
      host,
      port,
      ...reads.options,
      ALPNProtocols: [SESSION_PROTOCOL],
      minVersion: "TLSv1.3",
      ...(ca === undefined ? {} : { ca }),
      // Names are sent, addresses must not be.
      ...(isIP(host) === 0 ? { servername: host } : {}),
    });
    reads.bind(socket);
    const fail = (error: unknown): void => {
      socket.destroy();
      reject(dialError(error, nameOf({ host, port })));
    };
    const timer = setTimeout(() => fail(Object.assign(new Error("timeout"), { code: "ETIMEDOUT" })), DIAL_TIMEOUT_MS);
    socket.once("close", () => clearTimeout(timer));
    socket.once("error", fail);
    socket.once("secureConnect", () => {
      clearTimeout(timer);
      if (socket.alpnProtocol === SESSION_PROTOCOL) {
        // `fail` stays: an error before the session listens must not go unheard, and after this it does nothing.
        resolve(socket);
      } else {
        fail(Object.assign(new Error("no ALPN"), { code: NO_ALPN }));
      }
    });
  });
}

const NO_ALPN = "ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL";

const MEANING: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "the connection was reset",
  EHOSTUNREACH: "no route to it",
  ENETUNREACH: "no route to it",
  ENOTFOUND: "there is no host of this name",
  EAI_AGAIN: "the host's name can't be looked up now",
  ETIMEDOUT: "it does not answer",
  EPROTO: "it does not speak TLS as expected",
  ERR_SSL_WRONG_VERSION_NUMBER: "it does not speak TLS",
  ERR_SSL_PACKET_LENGTH_TOO_LONG: "it does not speak TLS",
  [NO_ALPN]: `it does not speak ${SESSION_PROTOCOL}: is this a CloudVMI service?`,
  CERT_HAS_EXPIRED: "its certificate has expired",
  CERT_NOT_YET_VALID: "its certificate is not valid yet: is the clock right?",
  ERR_TLS_CERT_ALTNAME_INVALID: "its certificate is for another name",
};

/** OpenSSL's names for certificates that no trusted authority has signed. */
const UNTRUSTED = /SELF_SIGNED|UNABLE_TO_|CERT_SIGNATURE_FAILURE|CERT_UNTRUSTED|INVALID_CA/;

/** What went wrong on the way to `where`, as Unavailable with a text for people. The cause is kept. */
export function dialError(error: unknown, where: string): ConnectError {
  const code = codeOf(error);
  const meaning = UNTRUSTED.test(code)
    ? "its certificate is not trusted: give the certificate of its authority (ca.pem, from its operator)"
    : (MEANING[code] ?? (error instanceof Error ? error.message : String(error)));
  return new ConnectError(`can't reach ${where}: ${meaning}`, Code.Unavailable, undefined, undefined, error);
}

/** The code of a failed connection among an error's causes; empty when it is something else. */
export function codeOf(error: unknown): string {
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    const code = "code" in at ? at.code : undefined;
    if (typeof code === "string") return code;
  }
  return "";
}
