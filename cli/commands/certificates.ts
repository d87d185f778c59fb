import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { usageError } from "../failure.ts";
import type { Io } from "../io.ts";
import { action, type CommonOptions, type Session } from "../session.ts";
import { addCommand, addGroup } from "./command.ts";

export function addCertificatesCommand(admin: Command, io: Io): void {
  const certificates = addGroup(admin, "certificates", "What agents and control prove themselves to each other with.");
  addCommand(certificates, "create", {
    summary: "Create an authority, and certificates for control and for hosts.",
    description:
      "Works on this machine alone, without a service. Call it again with the same folder for further hosts. Keep\n" +
      "the folder safe: whoever has the authority's key can pose as control to every agent.",
    examples: ["admin certificates create ./certificates --agent host1.example.com --agent host2.example.com,10.0.0.2"],
  })
    .argument("<folder>", "where they are written")
    .requiredOption("--agent <host...>", "a host's name, and further names or addresses with commas between")
    .action(
      action(io, async (session: Session, options: CommonOptions & { agent: string[] }, folder: string) => {
        const hosts = options.agent.map((names) => names.split(",").map((name) => name.trim()));
        if (hosts.flat().some((name) => !/^[A-Za-z\d:][\w.:-]*$/.test(name) || ["ca", "control"].includes(name))) {
          throw usageError(
            "--agent: write the host's name or address as control reaches it, such as host1.example.com",
          );
        }
        const files = await createCertificates(folder, hosts);
        await session.printer.done(
          `Wrote ${files.join(", ")}. Each host gets ca.pem and its own pair; control gets ca.pem and control.pem with its key.`,
          { files },
        );
      }),
    );
}

/** The authority and control's pair are made once; a host's pair is made anew each time, which also renews it. */
async function createCertificates(folder: string, hosts: string[][]): Promise<string[]> {
  const { ensureAuthority, issueCertificate, writeKeyPair } = await import("../../control/index.ts");
  const authority = await ensureAuthority(folder, "ca", "CloudVMI agents");
  const files: string[] = [join(folder, "ca.pem")];
  const write = async (file: string, request: { name: string; usage: "server" | "client"; hosts: string[] }) => {
    const written = writeKeyPair(folder, file, await issueCertificate(authority, request));
    files.push(written.certificate, written.key);
  };
  if (!existsSync(join(folder, "control.key"))) await write("control", { name: "control", usage: "client", hosts: [] });
  for (const names of hosts) await write(names[0]!, { name: names[0]!, usage: "server", hosts: names });
  return files;
}
