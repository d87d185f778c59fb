import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach } from "node:test";
import { type FakeService, goodToken, startFakeService } from "./fake-service.ts";

export interface LoggedIn {
  /** One for all tests of the file. */
  service: FakeService;
  /** Of one test alone. */
  folder: string;
  /** Of a user whom the service knows. */
  env: NodeJS.ProcessEnv;
}

/** What each test of a file gets anew before it begins. */
export function loggedIn(): LoggedIn {
  const at = { folder: "", env: {} } as LoggedIn;
  before(async () => {
    at.service = await startFakeService();
  });
  after(() => at.service[Symbol.asyncDispose]());
  beforeEach(async () => {
    const { service } = at;
    at.folder = await mkdtemp(join(tmpdir(), "cloudvmi-cli-"));
    const ca = join(at.folder, "ca.pem");
    await writeFile(ca, service.ca);
    at.env = { XDG_CONFIG_HOME: at.folder, CLOUDVMI_URL: service.url, CLOUDVMI_TOKEN: goodToken, CLOUDVMI_CA: ca };
    service.asked.length = 0;
  });
  afterEach(() => rm(at.folder, { recursive: true }));
  return at;
}
