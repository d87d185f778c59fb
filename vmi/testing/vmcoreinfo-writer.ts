/** The text of VMCOREINFO, and the ELF note around it (kernel/vmcore_info.c). */

export function vmcoreinfoText(fields: Readonly<Record<string, string>>): string {
  return Object.entries(fields)
    .map(([key, value]) => `${key}=${value}\n`)
    .join("");
}

export function vmcoreinfoNote(text: string, descriptionSize = text.length): Uint8Array {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(11, 0);
  header.writeUInt32LE(descriptionSize, 4);
  header.write("VMCOREINFO", 12, "latin1");
  return Buffer.concat([header, Buffer.from(text, "latin1")]);
}
