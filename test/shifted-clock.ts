/** Loaded before a daemon (`node --import`): its wall clock is off by `KOS_TEST_CLOCK_MS` milliseconds from the start. */
const shift = Number(process.env["KOS_TEST_CLOCK_MS"] ?? 0)
const realNow = Date.now
const RealDate = Date

Date.now = () => realNow() + shift
globalThis.Date = new Proxy(RealDate, {
  construct: (target, args: [], self) => Reflect.construct(target, args.length === 0 ? [realNow() + shift] : args, self) as object,
  apply: () => new RealDate(realNow() + shift).toString()
})
Object.defineProperty(performance, "timeOrigin", { value: performance.timeOrigin + shift })
