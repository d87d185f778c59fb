import { mkdirSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fetchHeaders } from "./apt.ts";
import { cached, cacheFolder } from "./cache.ts";
import { run } from "./run.ts";

/** The folder that modules of a kernel are built in, with what it refers to beside it, in the cache and not installed. */
export async function unpackHeaders(release: string, progress: (line: string) => void): Promise<string> {
  const folder = await cached(join(cacheFolder(), "headers", release), async (temporary) => {
    mkdirSync(temporary, { recursive: true });
    const debs = await fetchHeaders(release, progress);
    progress(`unpacking the headers of ${release}`);
    for (const deb of debs) await run("dpkg-deb", ["-x", deb, temporary]);
    const common = debs.map((deb) => basename(deb).split("_", 1)[0]!).find((name) => name.endsWith("-common"));
    // The packaged one names the place where the headers would be installed.
    writeFileSync(
      join(temporary, "usr/src", `linux-headers-${release}`, "Makefile"),
      `include ../${common}/Makefile\n`,
    );
  });
  return join(folder, "usr/src", `linux-headers-${release}`);
}
