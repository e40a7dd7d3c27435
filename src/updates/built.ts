/** When this version was made, wall milliseconds: the earliest that it can be now (R2.1). Raised with the version in `package.json`. */
export const builtMs = Date.UTC(2026, 10, 23)
