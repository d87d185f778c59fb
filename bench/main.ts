/** `npm run bench`: what CloudVMI costs, against what it is measured by, in one run on one machine. */
import { execFileSync } from "node:child_process";
import { cpus } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startCluster } from "../demo/cluster.ts";
import { ensureLab } from "../lab/index.ts";
import { measureChecks, measureEngine, measureScan, measureTables } from "./engine.ts";
import { type Figure, printFigures } from "./figures.ts";
import { measureFirstAnswer, measureInspectors, measurePeak, measureService, measureStream } from "./service.ts";
import { measureSql } from "./sql.ts";

const HELP = `Usage: npm run bench [-- --json]

Boots three guests (1 GiB; about 270 tasks, twice, and about 2,060) under two agents and control, and measures
  the engine alone, in processes of its own: attaching, process lists against a bare walk in C, 4 KiB reads, every table,
  every check, YARA over RAM against a plain buffer
  the service over TLS on loopback: first answer, process list, 4 KiB reads, rows, a memory stream against a
  bare TLS socket, and the private memory of the inspectors
  SQL over 20 VMs against the table reads that it needs, both through the service.
Trust the ratios: both sides of each were measured in this run. What others do on the machine only adds: the engine's figures are
medians of the quietest of three processes, those of attaching the lower quartile of twelve. Takes about four minutes.

  --json   one JSON object: the machine, and the figures as an array
`;

const { values } = parseArgs({ options: { json: { type: "boolean" }, help: { type: "boolean", short: "h" } } });
if (values.help) {
  process.stdout.write(HELP);
  process.exit(0);
}
const begin = performance.now();
const progress = (line: string) =>
  process.stderr.write(`[${((performance.now() - begin) / 1000).toFixed(1).padStart(5)} s] ${line}\n`);

progress("building …");
// A fresh clone has nothing built, and figures of an old build would mislead.
execFileSync(process.execPath, [join(import.meta.dirname, "..", "scripts", "build.ts")], { stdio: ["ignore", 2, 2] });
await ensureLab(progress);
const { figures, acceleration } = await measureGuests();
figures.push(await measureSql(progress));
if (values.json) {
  const machine = { cpu: cpus()[0]?.model, cpus: cpus().length, node: process.version, acceleration };
  process.stdout.write(`${JSON.stringify({ machine, figures }, null, 2)}\n`);
} else {
  printFigures(figures);
}

/** Everything that three guests suffice for; they have ended when it returns. */
async function measureGuests(): Promise<{ figures: Figure[]; acceleration: string }> {
  await using cluster = await startCluster(
    {
      hosts: {
        host1: {
          few: { project: "bench", guest: { kernel: "6.12", memoryMiB: 1024, workload: "quiet", extraTasks: 210 } },
        },
        host2: {
          full: { project: "bench", guest: { kernel: "6.12", memoryMiB: 1024, workload: "full", extraTasks: 160 } },
          many: { project: "bench", guest: { kernel: "6.1", memoryMiB: 1024, workload: "quiet", extraTasks: 2000 } },
        },
      },
      users: { bench: { project: "bench", role: "analyst" } },
    },
    progress,
  );
  const few = cluster.guests.get("few")!;
  // Memory that is not zero, so that a stream has something to carry.
  await few.exec(`python3 -c "f = open('/tmp/ballast', 'wb'); [f.write(b'x' * 1048576) for _ in range(384)]"`);
  await using service = cluster.connect("bench");
  const handles = { few: await service.vm("few"), many: await service.vm("many"), full: await service.vm("full") };
  const figures = [
    await measureFirstAnswer(handles.few),
    ...(await measureEngine(few, "few tasks", { listUs: 60, attach: true }, progress)),
    ...(await measureEngine(cluster.guests.get("many")!, "many tasks", { listUs: 600, attach: false }, progress)),
    ...(await measureScan(cluster.guests.get("full")!, progress)),
    ...(await measureTables(cluster.guests.get("full")!, progress)),
    ...(await measureChecks(cluster.guests.get("full")!, (await ensureLab())["6.12"].image, progress)),
    ...(await measureService(handles.few, handles.many, progress)),
    ...(await measureStream(handles.few, progress)),
    await measurePeak(cluster, handles.full, progress),
    ...(await measureInspectors(cluster)),
  ];
  return { figures, acceleration: few.acceleration };
}
