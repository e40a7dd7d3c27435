/**
 * What services were used for, as events, gathered: the first use is told at once, what follows within a minute in one event at its end. So of
 * each kind there is at most one event a minute for each service and peer, however busy it is.
 */
import type { Wanted } from "../commands/dispatch.ts"
import type { ServiceUse } from "../swarm/services.ts"

export interface ServiceEvents {
  readonly opened: (service: string, device: string) => void
  /** `service` is empty when there is no such service: its name is the asker's invention. */
  readonly refused: (service: string, device: string, why: string) => void
  readonly closed: (service: string, device: string, use: ServiceUse) => void
  /** Tells what has waited long enough; call it every few seconds. */
  readonly tick: () => void
  /** Tells everything that is still held. */
  readonly flush: () => void
}

/** Told again about one service and peer at the earliest after this time, milliseconds. */
export const gatherMs = 60_000
/** Services and peers gathered apart; what comes beyond within a minute is not told. */
export const gatheredMax = 1_024

interface Kept {
  readonly type: string
  readonly subject: string
  readonly quietUntil: number
  waiting: Body | undefined
}

interface Body {
  readonly service: string
  readonly device: string
  readonly count: number
  readonly why?: string
  readonly bytesIn?: number
  readonly bytesOut?: number
  readonly seconds?: number
  readonly broken?: number
}

export const makeServiceEvents = (record: (events: ReadonlyArray<Wanted>) => void, now: () => number): ServiceEvents => {
  const kept = new Map<string, Kept>()

  const tell = (type: string, body: Body): void => {
    const key = `${type} ${body.service} ${body.device}`
    const before = kept.get(key)
    if (before !== undefined) {
      before.waiting = before.waiting === undefined ? body : added(before.waiting, body)
      return
    }
    if (kept.size >= gatheredMax) return
    const subject = body.service === "" ? "services" : `service/${body.service}`
    kept.set(key, { type, subject, quietUntil: now() + gatherMs, waiting: undefined })
    record([{ type, subject, body }])
  }

  const release = (all: boolean): void => {
    const events: Array<Wanted> = []
    for (const [key, entry] of [...kept]) {
      if (!all && now() < entry.quietUntil) continue
      kept.delete(key)
      if (entry.waiting === undefined) continue
      events.push({ type: entry.type, subject: entry.subject, body: entry.waiting })
      if (!all) kept.set(key, { ...entry, quietUntil: now() + gatherMs, waiting: undefined })
    }
    if (events.length > 0) record(events)
  }

  return {
    opened: (service, device) => tell("service.opened/1", { service, device, count: 1 }),
    refused: (service, device, why) => tell("service.refused/1", { service, device, count: 1, why: why.slice(0, 256) }),
    closed: (service, device, { bytesIn, bytesOut, ms, why }) => tell("service.closed/1", {
      service, device, count: 1, bytesIn, bytesOut, seconds: Math.round(ms / 1_000), broken: why === undefined ? 0 : 1, why: (why?.sentence ?? "").slice(0, 256)
    }),
    tick: () => release(false),
    flush: () => release(true)
  }
}

const added = (a: Body, b: Body): Body => ({
  service: a.service, device: a.device, count: a.count + b.count,
  ...(a.why === undefined && b.why === undefined ? {} : { why: b.why === undefined || b.why === "" ? a.why ?? "" : b.why }),
  ...(a.bytesIn === undefined ? {} : {
    bytesIn: a.bytesIn + (b.bytesIn ?? 0), bytesOut: (a.bytesOut ?? 0) + (b.bytesOut ?? 0), seconds: (a.seconds ?? 0) + (b.seconds ?? 0), broken: (a.broken ?? 0) + (b.broken ?? 0)
  })
})
