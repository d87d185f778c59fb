/** SQL against the reads that it needs: both through the service, over TLS. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ClusterGuest, startCluster } from "../demo/cluster.ts";
import { bootGuest, type GuestSpec } from "../lab/index.ts";
import { type Figure, median, ratioOf } from "./figures.ts";

const VMS = 20;
const ROUNDS = 30;
const WARM_UP = 10;
/** As many as a statement has under way. */
const AT_ONCE = 16;
const STATEMENT =
  "SELECT p.vm, p.name, count(*) AS files FROM processes p JOIN process_open_files f ON f.vm = p.vm AND f.pid = p.pid " +
  "GROUP BY p.vm, p.name";

/**
 * 20 VMs on two hosts. They are machines of their own to everything here, with an inspector each, but stand still at the same
 * moment of one guest and share its RAM: so many emulated guests would leave the processors no time for anything else.
 */
export async function measureSql(progress: (line: string) => void): Promise<Figure> {
  const folder = mkdtempSync(join(tmpdir(), "cloudvmi-bench-"));
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rmSync(folder, { recursive: true }));
  const spec: GuestSpec = { kernel: "6.12", workload: "quiet", extraTasks: 210, ram: "file" };
  progress(`SQL: booting the guest that ${VMS} VMs are made of …`);
  const origin = stack.use(await bootGuest({ ...spec, name: "origin" }, progress));
  const stateFile = join(folder, "state");
  await origin.saveState(stateFile);
  const guest: GuestSpec = { ...spec, ramFile: origin.ramFile!, stateFile };
  const vms = Array.from({ length: VMS }, (_, number): [string, ClusterGuest] => [
    `vm${number + 1}`,
    { project: "bench", guest },
  ]);
  const cluster = stack.use(
    await startCluster(
      {
        hosts: { host1: Object.fromEntries(vms.slice(0, VMS / 2)), host2: Object.fromEntries(vms.slice(VMS / 2)) },
        users: { bench: { project: "bench", role: "analyst" } },
      },
      progress,
    ),
  );
  const service = stack.use(cluster.connect("bench"));
  const handles = await Promise.all(vms.map(([name]) => service.vm(name)));
  progress(`SQL over ${VMS} VMs against the reads it needs …`);
  const statement: number[] = [];
  const alone: number[] = [];
  let needed = 0;
  for (let round = 0; round < WARM_UP + ROUNDS; round++) {
    let begin = performance.now();
    const reading = service.sql(STATEMENT);
    await reading.all();
    statement.push(performance.now() - begin);
    const { reads, failures } = await reading.summary;
    if (failures.length > 0) throw new Error(`${failures[0]!.vm}: ${failures[0]!.message}`);
    const wanted = reads.flatMap(({ table, columns }) => handles.map((handle) => ({ handle, table, columns })));
    needed = wanted.length;
    begin = performance.now();
    const work = async () => {
      for (let read = wanted.shift(); read !== undefined; read = wanted.shift()) {
        await read.handle.table(read.table, { columns: read.columns }).all();
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    alone.push(performance.now() - begin);
  }
  return ratioOf(
    `SQL: join of two tables over ${VMS} VMs (one guest's RAM under ${VMS} machines, an inspector each), p50`,
    median(statement.slice(WARM_UP)),
    "ms",
    { name: `the ${needed} table reads alone`, value: median(alone.slice(WARM_UP)) },
    { atMost: 1.3 },
  );
}
