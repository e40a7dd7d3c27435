import { Effect } from "effect"
import type { Refusal } from "../../commands/refusal.ts"
import type { DaemonView } from "../node.ts"
import type { Call } from "../operation.ts"
import { type Handlers, operationByName } from "../operations/table.ts"
import { approvalHandlers } from "./approval.ts"
import { configHandlers } from "./config.ts"
import { connectHandlers } from "./connect.ts"
import { everydayHandlers } from "./everyday.ts"
import { eventHandlers } from "./events.ts"
import { federationHandlers } from "./federation.ts"
import { inviteHandlers } from "./invite.ts"
import { keyHandlers } from "./key.ts"
import { agentHandlers, memoryHandlers } from "./memory.ts"
import { meshHandlers } from "./mesh.ts"
import { nodeHandlers } from "./node.ts"
import { releaseHandlers } from "./release.ts"
import { syncHandlers } from "./sync.ts"
import { updateHandlers } from "./update.ts"
import { vaultHandlers } from "./vault.ts"

/** What the daemon answers to each operation. */
export const makeHandlers = (daemon: DaemonView): Handlers => recorded(daemon, {
  ...everydayHandlers(daemon), ...meshHandlers(daemon), ...federationHandlers(daemon), ...inviteHandlers(daemon), ...keyHandlers(daemon), ...nodeHandlers(daemon), ...syncHandlers(daemon), ...eventHandlers(daemon), ...configHandlers(daemon), ...approvalHandlers(daemon),
  ...connectHandlers(daemon), ...agentHandlers(daemon), ...memoryHandlers(daemon), ...vaultHandlers(daemon), ...updateHandlers(daemon), ...releaseHandlers(daemon)
})

type Commanded = (input: never, call: Call) => Effect.Effect<unknown, Refusal>

/** A command that its handler refuses before dispatch sees it is an event too. */
const recorded = (daemon: DaemonView, handlers: Handlers): Handlers => Object.fromEntries(Object.entries(handlers).map(([name, handler]) => {
  const op = operationByName.get(name)
  if (op?.kind !== "command" || op.stream !== "no") return [name, handler]
  const run = handler as Commanded
  const refusing: Commanded = (input, call) => run(input, call).pipe(Effect.tapError((refusal) => daemon.mesh().dispatch.refuse(name, call, refusal)))
  return [name, refusing]
})) as Handlers
