import { Effect } from "effect"
export const makeTrialDesk = (_: unknown) => ({ try: () => Effect.succeed({ summary: "", trials: [], log: [] }) })
