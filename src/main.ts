/** From the arguments to a daemon or to one call of it, and nothing else: what a daemon needs is loaded when one is wanted. */
import { fstatSync, readFileSync } from "node:fs"
import { enableCompileCache } from "node:module"
import { homedir } from "node:os"
import { join } from "node:path"

const argv = process.argv.slice(2)

/**
 * Stripped and compiled sources are kept between runs: a call takes two thirds of the time and 25 MB less. In the person's own cache directory,
 * never in a shared one, where somebody else could put code into it.
 */
const keepCompiled = (): void => {
  const cache = process.env["XDG_CACHE_HOME"]
  const home = process.env["HOME"] ?? homedir()
  if (cache?.startsWith("/") === true) enableCompileCache(join(cache, "kos", "compiled"))
  else if (home.startsWith("/")) enableCompileCache(join(home, ".cache", "kos", "compiled"))
}

/** Kept apart from everything else, so that it costs nothing. */
const version = (): string => /"version": "([^"]*)"/.exec(readFileSync(new URL("../package.json", import.meta.url), "utf8"))?.[1] ?? "0.0.0"

/** Is somebody writing into stdin? A terminal or /dev/null is nobody. */
const stdinPiped = (): boolean => {
  try {
    const stdin = fstatSync(0)
    return stdin.isFIFO() || stdin.isFile() || stdin.isSocket()
  } catch {
    return false
  }
}

const main = async (): Promise<number> => {
  if (argv.length === 1 && (argv[0] === "--version" || argv[0] === "-V")) {
    process.stdout.write(`kos ${version()}\n`)
    return 0
  }
  // Run by the version before this one, shut in: no command of anybody, so it stands in no table.
  if (argv.length === 2 && argv[0] === "daemon" && argv[1] === "rehearse") return (await import("./boot/rehearse.ts")).runRehearsal(version())
  keepCompiled()
  const { runCli } = await import("./api/cli/run.ts")
  const stop = new AbortController()
  let signalled: NodeJS.Signals | undefined
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      if (signalled !== undefined) process.exit(130)
      signalled = signal
      stop.abort()
    })
  }
  // Whoever reads has read enough.
  const pipeEnded = (error: NodeJS.ErrnoException) => { process.exit(error.code === "EPIPE" ? 0 : 1) }
  process.stdout.on("error", pipeEnded)
  process.stderr.on("error", pipeEnded)
  return runCli(argv, {
    stdin: { [Symbol.asyncIterator]: () => process.stdin[Symbol.asyncIterator]() },
    stdinPiped: stdinPiped(),
    raw: () => ({ input: process.stdin, output: process.stdout }),
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    cwd: process.cwd(),
    ...(process.stdin.isTTY && process.stderr.isTTY ? { ask: async (prompt: string) => (await import("./boot/terminal.ts")).askHidden(prompt) } : {}),
    now: () => performance.timeOrigin + performance.now(),
    random: (size) => crypto.getRandomValues(new Uint8Array(size)),
    version: version(),
    signal: stop.signal,
    local: {
      init: async (input, context) => (await import("./boot/init.ts")).init(input, context),
      doctor: async (input, context) => (await import("./boot/offline-doctor.ts")).offlineDoctor(input, context),
      keys: {
        show: async (input, context) => (await import("./boot/recovery.ts")).showKeys(input, context),
        seal: async (input, context) => (await import("./boot/recovery.ts")).sealKeys(input, context),
        unseal: async (input, context) => (await import("./boot/recovery.ts")).unsealKeys(input, context),
        backup: async (input, context) => (await import("./boot/recovery.ts")).backupKeys(input, context),
        restore: async (input, context) => (await import("./boot/recovery.ts")).restoreKeys(input, context)
      },
      daemonRun: async (input, context) => (await import("./boot/daemon.ts")).runDaemon(input, context),
      dhtRun: async (input, context) => (await import("./boot/dht.ts")).runDht(input, context)
    }
  })
}

process.exitCode = await main()
