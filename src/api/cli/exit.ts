import { exitCodes } from "../problem.ts"
import type { OperationName, OutputOf } from "../operations/table.ts"

/** Answers that are not failures of the call but still bad news; a script can act on them without reading. */
const codes: { readonly [Name in OperationName]?: (value: OutputOf<Name>) => number } = {
  status: ({ state }) => (state === "degraded" ? exitCodes.degraded : 0),
  doctor: ({ healthy, rebuild }) => (healthy && rebuild?.equal !== false ? 0 : exitCodes.degraded),
  "event.verify": ({ clean }) => (clean ? 0 : exitCodes.failed),
  "config.validate": ({ valid }) => (valid ? 0 : exitCodes.usage),
  "config.diff": ({ faults }) => (faults.length === 0 ? 0 : exitCodes.usage),
  "sync.now": ({ missed }) => (missed.length === 0 ? 0 : exitCodes.pending),
  "sync.import": ({ refused }) => (refused.length === 0 ? 0 : exitCodes.failed)
}

const byName = new Map<string, (value: never) => number>(Object.entries(codes))

/** The value must have been decoded by the operation's own output schema. */
export const exitOf = (name: string, value: unknown): number => byName.get(name)?.(value as never) ?? 0
