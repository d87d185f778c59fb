/** SQL against the reads that it needs: both through the service, over TLS. */
import { readFileSync } from "node:fs";
import { create } from "@bufbuild/protobuf";
import type { Cluster } from "../demo/cluster.ts";
import { GuestService, VmIdSchema } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { addressOf, dialSession } from "../sdk/dial.ts";
import { type GuestHandle, sqlReading } from "../sdk/index.ts";
import { runSql, sqlTables, type TableRead } from "../sql/index.ts";
import { createWireTransport } from "../wire/index.ts";
import { type Figure, median, ratioOf } from "./figures.ts";

const VMS = 20;
const ROUNDS = 30;
const WARM_UP = 10;
/** As many as a statement has under way. */
const AT_ONCE = 16;
const STATEMENT =
  "SELECT p.vm, p.name, count(*) AS files FROM processes p JOIN process_open_files f ON f.vm = p.vm AND f.pid = p.pid " +
  "GROUP BY p.vm, p.name";

/** One guest under 20 names: what each costs is that of a guest of its own but for the inspector, which they share. */
export async function measureSql(
  cluster: Cluster,
  user: string,
  guest: GuestHandle,
  progress: (line: string) => void,
): Promise<Figure[]> {
  progress("SQL over 20 VMs against the reads it needs …");
  const ca = readFileSync(cluster.caFile, "utf8");
  const transport = createWireTransport({
    connect: () => dialSession(addressOf(cluster.url), ca),
    token: cluster.token(user),
  });
  const vm = create(VmIdSchema, guest.id);
  let reads: TableRead[] = [];
  const options = {
    tables: sqlTables(await guest.tables()),
    vms: Array.from({ length: VMS }, (_, number) => `vm${number}`),
    read(read: TableRead) {
      reads.push(read);
      const { table, columns, signal } = read;
      return transport.streamEncoded(GuestService.method.readTable, { vm, table, columns: [...columns] }, { signal });
    },
  };
  const statement: number[] = [];
  const alone: number[] = [];
  for (let round = 0; round < WARM_UP + ROUNDS; round++) {
    reads = [];
    let begin = performance.now();
    await sqlReading(() => runSql(STATEMENT, options)).all();
    statement.push(performance.now() - begin);
    begin = performance.now();
    let next = 0;
    const work = async () => {
      for (let read = reads[next++]; read !== undefined; read = reads[next++]) {
        await guest.table(read.table, { columns: read.columns }).all();
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    alone.push(performance.now() - begin);
  }
  await transport.close();
  return [
    ratioOf(
      `SQL: join of two tables over ${VMS} VMs (one guest, asked ${VMS} times), p50`,
      median(statement.slice(WARM_UP)),
      "ms",
      { name: `the ${reads.length} table reads alone`, value: median(alone.slice(WARM_UP)) },
      { atMost: 1.3 },
    ),
  ];
}
