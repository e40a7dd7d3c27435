import type { Json } from "./types.ts"

/** Nesting of a register's JSON value; deeper ones could exhaust a stack on their way to a reader. */
export const registerDepthMax = 64

export type Register = { readonly value: Json } | { readonly why: string }

/** The value of a register's JSON text, which anyone may have written. Never throws. */
export const readRegister = (text: string): Register => {
  let value: Json
  try {
    value = JSON.parse(text)
  } catch {
    return { why: "is not JSON" }
  }
  const why = faultOf(value, 0)
  return why === undefined ? { value } : { why }
}

const forbidden = new Set(["__proto__", "constructor", "prototype"])

const faultOf = (value: Json, depth: number): string | undefined => {
  if (typeof value === "string") return value.isWellFormed() ? undefined : "holds text that is not Unicode"
  if (typeof value === "number") return Number.isFinite(value) ? undefined : "holds a number that is too large"
  if (typeof value !== "object" || value === null) return undefined
  if (depth >= registerDepthMax) return `is nested deeper than ${registerDepthMax}`
  for (const [key, item] of Object.entries(value)) {
    if (forbidden.has(key)) return `holds the forbidden key ${key}`
    const why = faultOf(item, depth + 1)
    if (why !== undefined) return why
  }
  return undefined
}

/** JSON text with sorted keys: equal values have equal texts. */
export const canonical = (value: Json): string => {
  if (typeof value !== "object" || value === null) return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`
  return `{${Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, item]) => `${JSON.stringify(key)}:${canonical(item)}`).join(",")}}`
}
