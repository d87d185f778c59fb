/**
 * The TypeScript client of CloudVMI: what really runs in your virtual machines, read from outside them.
 *
 * ```ts
 * import { connect } from "./sdk/index.ts";
 *
 * await using cloud = connect({ url: "https://vmi.example.com:7443", token, ca });
 * const web = await cloud.vm("web1");
 * for await (const row of web.table("processes", { columns: ["pid", "name", "cmdline"], where: { uid: 0 } })) {
 *   console.log(row.pid, row.name, row.cmdline);
 * }
 * const [task] = await web.symbols({ names: ["init_task"] });
 * const bytes = await web.read("kernel", task!.address, 64);
 * {
 *   await using pause = await web.pause(10); // runs on at the end of the block, or after 10 s whatever happens
 *   console.log(await web.registers());
 * }
 * ```
 *
 * Cells of a row are numbers (bigints where these are not exact), strings, null where a thing has no such property, or
 * `{ state }` where a value could not be read. Addresses are bigints. Every failure is a ConnectError with its `code`.
 */

export type { WhoAmIResponse } from "../proto/gen/cloudvmi/v1/account_pb.ts";
export {
  type ColumnSpec,
  ColumnType,
  type ObjectMember,
  type ReadResult,
  type ReadSummary,
  type ScanSummary,
  type Symbol as GuestSymbol,
  type TableSpec,
  type Translation,
  type TypeLayout,
  type TypeMember,
  type Vcpu,
  type VmId,
} from "../proto/gen/cloudvmi/v1/guest_pb.ts";
export type { HealthCheckResponse } from "../proto/gen/cloudvmi/v1/health_pb.ts";
export { ScanEnd, type ScanMatch, type ScanPlace, type ScanProgress } from "../proto/gen/cloudvmi/v1/scan_pb.ts";
export type { SqlSummary } from "../proto/gen/cloudvmi/v1/sql_pb.ts";
export { type Vm, VmStatus } from "../proto/gen/cloudvmi/v1/vm_pb.ts";
export { formatAddress, parseAddress } from "./address.ts";
export type { Absent, Cell } from "./cells.ts";
export { type CloudVmi, type ConnectOptions, connect } from "./cloud.ts";
export {
  type BatchItem,
  type GuestHandle,
  type GuestObject,
  guestOver,
  type MemoryPiece,
  type PauseLease,
  type ScanQuery,
  type ScanTargetName,
  type ScanUpdate,
  type Space,
  type TableQuery,
} from "./guest.ts";
export type { TableReading } from "./reading.ts";
export type { Row } from "./rows.ts";
export { type SqlCell, type SqlQuery, type SqlReading, type SqlRow, sqlReading } from "./sql.ts";
export { bytesToText, textToBytes } from "./text.ts";
