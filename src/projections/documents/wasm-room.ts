/**
 * Room for Automerge's WebAssembly memory, asked for at once.
 *
 * Automerge's memory grows by little pieces while documents load. At each growth V8 makes a new buffer over the whole of it and counts it
 * as new memory outside its heap; two hundred documents (183 MiB) cost 75 full garbage collections that found nothing, half of the time of
 * a catch-up. So the module's own allocator is given one large block and gets it back: the pages are its own then, and as nobody has
 * touched them they take no memory of the machine. Beyond that room all is as before.
 *
 * The package does not show its instance. This file must be imported before Automerge, and only in the thread that is Automerge's own: until
 * `makeRoom` it listens to the making of instances. Without the two functions looked for nothing happens; only speed depends on them.
 */

/** Bytes of address space for each instance, not of memory. */
export const wasmRoomBytes = 256 * 1024 * 1024

/** To be called once, when Automerge is there. */
export const makeRoom = (): void => {
  WebAssembly.Instance = Original
  for (const { exports } of made.splice(0)) {
    const { __wbindgen_malloc: malloc, __wbindgen_free: free } = exports
    if (typeof malloc !== "function" || typeof free !== "function") continue
    try {
      const at: unknown = malloc(wasmRoomBytes, 1)
      if (typeof at === "number" && at !== 0) free(at, wasmRoomBytes, 1)
    } catch {
      // No such room: memory grows by little pieces.
    }
  }
}

const Original = WebAssembly.Instance
const made: Array<InstanceType<typeof Original>> = []

WebAssembly.Instance = class extends Original {
  constructor(module: object, imports?: object) {
    super(module, imports)
    made.push(this)
  }
}
