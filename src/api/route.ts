/** The route of an operation: `config.get` is `/v1/config/get`, `status` is `/v1/status`. */
export const routeOf = (operation: { readonly name: string }): string => `/v1/${operation.name.replace(".", "/")}`
