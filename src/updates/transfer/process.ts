/**
 * Entry of the transfer process. WebTorrent and the tracker ask for a WebRTC library whose native part is not installed and not wanted: it is
 * replaced by an empty module before they are loaded. The process ends when its parent is gone, and when something throws that nothing caught: the parent starts
 * another, and what was whole on disk stays whole.
 */
import { registerHooks } from "node:module"

const empty = "data:text/javascript,export default class{static WEBRTC_SUPPORT=false}"

registerHooks({
  resolve: (specifier, context, next) =>
    specifier === "webrtc-polyfill" || specifier.startsWith("@thaunknown/simple-peer") ? { url: empty, shortCircuit: true } : next(specifier, context)
})
process.umask(0o077)
process.once("disconnect", () => process.exit(0))
// A terminal sends these to parent and child alike; the parent says what happens.
for (const signal of ["SIGINT", "SIGHUP"] as const) process.on(signal, () => {})

const { serve } = await import("./seeder.ts")
serve()
