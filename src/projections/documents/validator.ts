/** The module that knows what a valid document is; the worker loads it. Tests may name another. */
export const validatorUrl = new URL("../families/validate.ts", import.meta.url)
