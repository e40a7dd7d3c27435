/** Where a command's words go: answers to stdout, problems and progress to stderr. */
import type { ProblemDocument } from "../problem.ts"
import { red, safe, safeDeep, type View } from "./text.ts"

export interface Sink {
  write(text: string): boolean
  once(event: "drain" | "close" | "error", listener: () => void): unknown
  off(event: "drain" | "close" | "error", listener: () => void): unknown
  readonly isTTY?: boolean
  readonly columns?: number
  readonly destroyed?: boolean
}

/** Writes, and waits when the reader lags. */
export const put = async (sink: Sink, text: string): Promise<void> => {
  if (sink.destroyed === true || sink.write(text)) return
  await new Promise<void>((resolve) => {
    const done = () => {
      for (const event of ["drain", "close", "error"] as const) sink.off(event, done)
      resolve()
    }
    for (const event of ["drain", "close", "error"] as const) sink.once(event, done)
  })
}

/** JSON for a person on a terminal, or one line for a program. */
export const jsonText = (sink: Sink, value: unknown): string => `${sink.isTTY === true ? safeJson(JSON.stringify(value, null, 2)) : JSON.stringify(value)}\n`

/** JSON escapes C0 itself; what else could fool a terminal becomes an escape that means the same. */
const safeJson = (json: string): string =>
  json.replace(/[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`)

export const putProblem = (sink: Sink, what: ProblemDocument, json: boolean, view: View): Promise<void> => {
  if (json) return put(sink, jsonText(sink, what))
  const { detail, hint } = safeDeep(what)
  return put(sink, `${red(view, "kos:")} ${detail}\n${hint === undefined ? "" : `  next: ${hint}\n`}`)
}

export interface Progress {
  readonly show: (done: number, total: number, what: string) => void
  readonly clear: () => void
}

/** A bar that redraws itself in one line, when stderr is a terminal. A total below 0 is no measure: `what` is a line that stays. */
export const progressBar = (sink: Sink, wanted: boolean): Progress => {
  if (!wanted) return { show: () => {}, clear: () => {} }
  const line = (what: string) => { sink.write(`${safe(what)}\n`) }
  if (sink.isTTY !== true) return { show: (_done, total, what) => { if (total < 0) line(what) }, clear: () => {} }
  let shown = false
  const cells = 24
  return {
    show: (done, total, what) => {
      if (total < 0) {
        if (shown) sink.write("\r\u001b[K")
        shown = false
        return line(what)
      }
      const part = total > 0 ? Math.min(1, Math.max(0, done / total)) : 0
      const full = Math.round(part * cells)
      const figures = total > 0 ? `${Math.floor(part * 100)} % (${done.toLocaleString("en")} of ${total.toLocaleString("en")})` : done.toLocaleString("en")
      const bar = `[${"#".repeat(full)}${".".repeat(cells - full)}] ${figures} ${safe(what).replaceAll("\n", " ")}`
      sink.write(`\r${bar.slice(0, Math.max(20, (sink.columns ?? 80) - 1))}\u001b[K`)
      shown = true
    },
    clear: () => {
      if (shown) sink.write("\r\u001b[K")
      shown = false
    }
  }
}
