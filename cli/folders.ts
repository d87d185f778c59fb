import { userInfo } from "node:os";
import { join } from "node:path";

/** Folders of the user's own (XDG Base Directory Specification, 0.8), without that of the program. */
export const configHome = (env: NodeJS.ProcessEnv): string => env.XDG_CONFIG_HOME || join(homeOf(env), ".config");
export const stateHome = (env: NodeJS.ProcessEnv): string => env.XDG_STATE_HOME || join(homeOf(env), ".local", "state");
const cacheHome = (env: NodeJS.ProcessEnv): string => env.XDG_CACHE_HOME || join(homeOf(env), ".cache");

/** What can be made anew: kernels' profiles, compiled code. */
export const cacheFolder = (env: NodeJS.ProcessEnv): string => env.CLOUDVMI_CACHE || join(cacheHome(env), "cloudvmi");

/** Without HOME, or with an empty one, which would put everything into the folder that the user happens to be in. */
function homeOf(env: NodeJS.ProcessEnv): string {
  if (env.HOME) return env.HOME;
  try {
    return userInfo().homedir;
  } catch {
    // A user without an entry in the list of users, as in containers.
    return "/";
  }
}
