// An agent in a process of its own, to be killed: node agent.ts CONFIG
import { loadAgentConfig, startAgent } from "../../../agent/index.ts";

await startAgent(loadAgentConfig(process.argv[2]!));
