/** What tunnels ask of the node that serves: which services there are, who may use them, how to reach them. Boot answers from the configuration. */
import type { Duplex } from "node:stream"
import type { CloseReason, RefusalReason, Told } from "./tunnel-wire.ts"

export interface Admitted {
  readonly _tag: "Admitted"
  /** Streams to this service at once, of all peers together. */
  readonly streamsMax: number
  /** A stream on which nothing moved for so long is closed. */
  readonly idleMs: number
  /** Other limits or another target are another service: equal texts mean that an open stream may go on. */
  readonly target: string
  /** A service of the node itself: it takes the stream as it is, and nothing is dialled. */
  readonly take?: (stream: Duplex) => void
}

export type Admission = Admitted | (Told<RefusalReason> & { readonly _tag: "Refused" })

export interface Services {
  /** May this device use this service now? Asked at each opening and, when something changed, for each open stream. */
  readonly admit: (service: string, device: string) => Admission
  /** Connects to a target that was admitted; rejects with a sentence. The stream keeps its halves apart (`allowHalfOpen`). */
  readonly dial: (service: string, target: string, msMax: number) => Promise<Duplex>
  /** Whom to tell that the rules changed. */
  readonly onChange: (listener: () => void) => void
  readonly opened: (service: string, device: string) => void
  readonly refused: (service: string, device: string, told: Told<RefusalReason>) => void
  readonly closed: (service: string, device: string, use: ServiceUse) => void
}

/** What went over one stream, as the serving side counted it. */
export interface ServiceUse {
  readonly bytesIn: number
  readonly bytesOut: number
  readonly ms: number
  /** Absent when both sides had said all they wanted. */
  readonly why?: Told<CloseReason>
}

/** Bytes that came and went so far, of the program's own. */
export interface StreamCounts {
  readonly in: number
  readonly out: number
}

/** The asking side's answer. */
export type Opened =
  | { readonly _tag: "Opened"; readonly stream: Duplex; readonly counts: StreamCounts; readonly carrier: string; readonly remote: string }
  /** Asked only: it would be accepted. */
  | { readonly _tag: "Allowed" }
  | (Told<RefusalReason> & { readonly _tag: "Refused" })
  /** The device is not in touch, or went while it was asked. */
  | { readonly _tag: "Absent" }

export interface Pinged {
  readonly ms: number
  readonly carrier: string
  readonly remote: string
}
