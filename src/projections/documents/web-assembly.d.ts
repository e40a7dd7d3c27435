/** What wasm-room.ts needs of the global that TypeScript declares only for browsers. */
declare namespace WebAssembly {
  let Instance: new (module: object, imports?: object) => { readonly exports: { readonly [name: string]: unknown } }
}
