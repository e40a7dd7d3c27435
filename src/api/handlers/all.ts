import type { DaemonView } from "../node.ts"
import type { Handlers } from "../operations/table.ts"
import { configHandlers } from "./config.ts"
import { everydayHandlers } from "./everyday.ts"
import { eventHandlers } from "./events.ts"
import { agentHandlers, memoryHandlers } from "./memory.ts"
import { meshHandlers } from "./mesh.ts"
import { syncHandlers } from "./sync.ts"

/** What the daemon answers to each operation. */
export const makeHandlers = (daemon: DaemonView): Handlers => ({
  ...everydayHandlers(daemon), ...meshHandlers(daemon), ...syncHandlers(daemon), ...eventHandlers(daemon), ...configHandlers(daemon),
  ...agentHandlers(daemon), ...memoryHandlers(daemon)
})
