import { existsSync } from "node:fs"
import { homedir } from "node:os"
import { join, resolve } from "node:path"

export const systemHome = "/var/lib/kos"

/**
 * The directory of the node that is meant: `--home`, else `KOS_HOME`, else for root the system's node where there is one, else the person's
 * own under the XDG data directory.
 */
export const homeOf = (flag: string | undefined, env: Readonly<Record<string, string | undefined>>, cwd: string): string => {
  const named = flag ?? env["KOS_HOME"]
  if (named !== undefined && named !== "") return resolve(cwd, named)
  if (process.getuid?.() === 0 && existsSync(systemHome)) return systemHome
  const data = env["XDG_DATA_HOME"]
  return data !== undefined && data.startsWith("/") ? join(data, "kos") : join(env["HOME"] ?? homedir(), ".local", "share", "kos")
}
