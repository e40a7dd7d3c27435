import { Effect } from "effect"
import { Refusal } from "../commands/refusal.ts"
import type { InputOf, OutputOf } from "../api/operations/table.ts"
import { socketPath } from "../api/socket.ts"
import { logKey } from "../events/hypercore-store.ts"
import { openHome } from "./first-run.ts"
import { HomeInUse, lockHome } from "./lock.ts"

/** `kos init`: makes the home without running anything. */
export const init = async (
  input: InputOf<"init">, context: { readonly home: string }
): Promise<OutputOf<"init">> => {
  process.umask(0o077)
  const { home } = context
  const release = await lockHome(home).catch((cause: unknown) => {
    throw cause instanceof HomeInUse ? new Refusal({ kind: "conflict", detail: cause.message, hint: "kos status" }) : cause
  })
  try {
    const opened = await openHome(home, input.name, () => Math.floor(performance.timeOrigin + performance.now()))
    const { vault, mesh, created } = await Effect.runPromise(Effect.fromResult(opened))
    if (!created && input.name !== undefined) {
      throw new Refusal({ kind: "conflict", detail: `${home} is a node already`, hint: `kos --home ${home} node name ${input.name}` })
    }
    const { keyPair } = await vault.logKeyPair(mesh)
    return {
      created, name: created ? input.name ?? (await import("./first-run.ts")).defaultName() : "", device: vault.deviceId, log: logKey(keyPair.publicKey), home,
      socket: socketPath(home), next: `kos --home ${home} daemon run`
    }
  } finally {
    await release()
  }
}
