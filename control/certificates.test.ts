import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { createAuthority, ensureServerCertificate, issueCertificate, writeKeyPair } from "./certificates.ts";

async function inDirectory(run: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), "cloudvmi-certificates-"));
  try {
    await run(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test("an issued certificate is good for its names and its use, and for nothing else", async () => {
  const authority = await createAuthority("test");
  const ca = new X509Certificate(authority.certificate);
  assert.equal(ca.ca, true);
  const hosts = ["host1.example.com", "10.0.0.2", "::1"];
  const pair = await issueCertificate(authority, { name: "host1", usage: "server", hosts });
  const certificate = new X509Certificate(pair.certificate);
  assert.equal(certificate.ca, false);
  assert.ok(certificate.checkIssued(ca) && certificate.verify(ca.publicKey));
  assert.ok(certificate.checkHost("host1.example.com"));
  assert.equal(certificate.checkHost("host2.example.com"), undefined);
  assert.ok(certificate.checkIP("10.0.0.2") && certificate.checkIP("::1"));
  assert.deepEqual(certificate.keyUsage, ["1.3.6.1.5.5.7.3.1"]);
  assert.ok(certificate.publicKey.asymmetricKeyDetails?.namedCurve === "prime256v1");
  const days = (certificate.validToDate.getTime() - Date.now()) / 86_400_000;
  assert.ok(days > 390 && days <= 397, String(days));
  const control = await issueCertificate(authority, { name: "control", usage: "client", hosts: [] });
  assert.deepEqual(new X509Certificate(control.certificate).keyUsage, ["1.3.6.1.5.5.7.3.2"]);
  const other = await createAuthority("test");
  assert.equal(certificate.verify(new X509Certificate(other.certificate).publicKey), false);
});

test("keys are written for their owner alone", async () => {
  await inDirectory(async (directory) => {
    const inner = path.join(directory, "inner");
    const files = writeKeyPair(inner, "control", await createAuthority("test"));
    assert.deepEqual(files, { certificate: path.join(inner, "control.pem"), key: path.join(inner, "control.key") });
    assert.equal(statSync(files.key).mode & 0o777, 0o600);
    assert.equal(statSync(inner).mode & 0o777, 0o700);
    assert.match(readFileSync(files.key, "utf8"), /BEGIN PRIVATE KEY/);
  });
});

test("control's own certificate is kept while it fits and made anew, by the same authority, when it does not", async () => {
  await inDirectory(async (directory) => {
    const first = await ensureServerCertificate(directory, "127.0.0.1");
    assert.deepEqual(await ensureServerCertificate(directory, "127.0.0.1"), first);
    const ca = readFileSync(path.join(directory, "ca.pem"), "utf8");
    const second = await ensureServerCertificate(directory, "vmi.example.com");
    assert.notEqual(second.certificate, first.certificate);
    assert.equal(readFileSync(path.join(directory, "ca.pem"), "utf8"), ca);
    const certificate = new X509Certificate(second.certificate);
    for (const host of ["vmi.example.com", "localhost"]) assert.ok(certificate.checkHost(host), host);
    // One of another authority is of no use to the clients that were given this one.
    const stranger = await createAuthority("CloudVMI control");
    const hosts = ["vmi.example.com", "localhost", "127.0.0.1", "::1"];
    writeKeyPair(directory, "server", await issueCertificate(stranger, { name: "x", usage: "server", hosts }));
    const third = await ensureServerCertificate(directory, "vmi.example.com");
    assert.ok(new X509Certificate(third.certificate).verify(new X509Certificate(ca).publicKey));
    // Listening everywhere is no name.
    const everywhere = new X509Certificate((await ensureServerCertificate(directory, "0.0.0.0")).certificate);
    assert.doesNotMatch(everywhere.subjectAltName ?? "", /0\.0\.0\.0/);
  });
});
