// Certificates of one's own: of the public port when the operator has none, and of agents and control for each
// other. ECDSA P-256, as PEM.
import "reflect-metadata"; // The X.509 library's dependency injection needs it, before anything else.
import crypto, { randomBytes, webcrypto } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";

/** PEM texts; the key is secret. */
export interface KeyPair {
  readonly certificate: string;
  readonly key: string;
}

export interface CertificateRequest {
  readonly name: string;
  /** `server`: agents and the public port; `client`: control, towards agents. */
  readonly usage: "server" | "client";
  /** Host names and IP addresses under which a server is reached. */
  readonly hosts: readonly string[];
}

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const dayMs = 86_400_000;
const authorityDays = 3650;
/** What browsers and phones accept at most. */
const certificateDays = 397;
const renewBeforeMs = 30 * dayMs;

/** A certificate authority that signs for this service alone. */
export async function createAuthority(name: string): Promise<KeyPair> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: [{ CN: [name] }],
    ...validity(authorityDays),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate: certificate.toString("pem"), key: await exportKey(keys.privateKey) };
}

export async function issueCertificate(
  authority: KeyPair,
  { name, usage, hosts }: CertificateRequest,
): Promise<KeyPair> {
  const issuer = new X509Certificate(authority.certificate);
  const signingKey = await webcrypto.subtle.importKey(
    "pkcs8",
    PemConverter.decodeFirst(authority.key),
    algorithm,
    false,
    ["sign"],
  );
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const purpose = usage === "server" ? ExtendedKeyUsage.serverAuth : ExtendedKeyUsage.clientAuth;
  const names = hosts.map((host) => ({ type: net.isIP(host) === 0 ? ("dns" as const) : ("ip" as const), value: host }));
  const certificate = await X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: [{ CN: [name] }],
    issuer: issuer.subject,
    ...validity(certificateDays),
    signingAlgorithm: algorithm,
    publicKey: keys.publicKey,
    signingKey,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([purpose]),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
      await AuthorityKeyIdentifierExtension.create(issuer),
      ...(names.length === 0 ? [] : [new SubjectAlternativeNameExtension(names)]),
    ],
  });
  return { certificate: certificate.toString("pem"), key: await exportKey(keys.privateKey) };
}

/** Writes NAME.pem and NAME.key (0600) into a directory, each whole or not at all. */
export function writeKeyPair(directory: string, name: string, pair: KeyPair): { certificate: string; key: string } {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const files = { certificate: path.join(directory, `${name}.pem`), key: path.join(directory, `${name}.key`) };
  writeWhole(files.key, pair.key, 0o600);
  writeWhole(files.certificate, pair.certificate, 0o644);
  return files;
}

/** Replaces a file in one step, with a mode that holds from the first byte on. */
export function writeWhole(file: string, text: string, mode: number): void {
  const temporary = `${file}.${randomBytes(4).toString("hex")}.new`;
  writeFileSync(temporary, text, { mode, flag: "wx", flush: true });
  chmodSync(temporary, mode);
  renameSync(temporary, file);
}

/** The authority kept in a directory as NAME.pem and NAME.key, made when it is not there yet. */
export async function ensureAuthority(directory: string, name: string, title: string): Promise<KeyPair> {
  const kept = readKeyPair(directory, name);
  if (kept !== undefined) return kept;
  const made = await createAuthority(title);
  writeKeyPair(directory, name, made);
  return made;
}

/**
 * The public port's certificate when the operator gave none: signed by an authority of its own (`ca.pem` in the
 * state directory, which clients are given), renewed in time and when it must answer to another host name.
 */
export async function ensureServerCertificate(directory: string, host: string): Promise<KeyPair> {
  const authority = await ensureAuthority(directory, "ca", "CloudVMI control");
  const hosts = [...new Set([host, "localhost", "127.0.0.1", "::1", os.hostname()])].filter(
    (each) => each !== "0.0.0.0" && each !== "::",
  );
  const kept = readKeyPair(directory, "server");
  if (kept !== undefined && isGoodFor(kept.certificate, authority.certificate, hosts)) return kept;
  const made = await issueCertificate(authority, { name: "cloudvmi control", usage: "server", hosts });
  writeKeyPair(directory, "server", made);
  return made;
}

function readKeyPair(directory: string, name: string): KeyPair | undefined {
  const [certificate, key] = [path.join(directory, `${name}.pem`), path.join(directory, `${name}.key`)];
  if (!existsSync(certificate) || !existsSync(key)) return undefined;
  return { certificate: readFileSync(certificate, "utf8"), key: readFileSync(key, "utf8") };
}

function isGoodFor(pem: string, authorityPem: string, hosts: readonly string[]): boolean {
  const certificate = new crypto.X509Certificate(pem);
  return (
    certificate.verify(new crypto.X509Certificate(authorityPem).publicKey) &&
    certificate.validToDate.getTime() - Date.now() > renewBeforeMs &&
    hosts.every(
      (host) => (net.isIP(host) === 0 ? certificate.checkHost(host) : certificate.checkIP(host)) !== undefined,
    )
  );
}

function validity(days: number): { notBefore: Date; notAfter: Date } {
  // Clocks differ.
  return { notBefore: new Date(Date.now() - 300_000), notAfter: new Date(Date.now() + days * dayMs) };
}

/** Positive and of 16 bytes. */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0]! & 0x3f) | 0x40;
  return bytes.toString("hex");
}

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  return PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY");
}
