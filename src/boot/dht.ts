import type { InputOf, OutputOf } from "../api/operations/table.ts"
import { Refusal } from "../commands/refusal.ts"
import { hostDht } from "../swarm/carriers/dht-host.ts"

/** `kos dht run`: a bootstrap for a DHT that needs nobody else's, until it is told to stop. */
export const runDht = async (
  input: InputOf<"dht.run">, context: { readonly signal: AbortSignal; readonly announce: (value: OutputOf<"dht.run">) => Promise<void> }
): Promise<void> => {
  const host = await hostDht({ port: input.port, ...(input.host === undefined ? {} : { host: input.host }) }).catch((cause: unknown) => {
    throw new Refusal({ kind: "failed", detail: `the DHT cannot listen: ${cause instanceof Error ? cause.message : String(cause)}` })
  })
  await context.announce({ host: host.host, port: host.port, bootstrap: `${host.host}:${host.port}` })
  await new Promise<void>((resolve) => {
    if (context.signal.aborted) resolve()
    else context.signal.addEventListener("abort", () => resolve(), { once: true })
  })
  await host.stop()
}
