/** How often a device that was put out may come as far as the hello, to be told why. */
export interface Door {
  /** Would it be let in now? */
  readonly isOpen: (device: string) => boolean
  /** It comes in now. */
  readonly enter: (device: string) => void
}

/** Devices remembered at most; the oldest is forgotten, and may come a little early. */
export const doorDevicesMax = 256

/** `everyMs` between two visits of one device; asked each time, because it may depend on what is going on. */
export const makeDoor = (now: () => number, everyMs: () => number, devicesMax = doorDevicesMax): Door => {
  const last = new Map<string, number>()
  return {
    // A clock that was set back opens the door rather than closing it for ever.
    isOpen: (device) => {
      const since = now() - (last.get(device) ?? -Infinity)
      return since >= everyMs() || since < 0
    },
    enter: (device) => {
      last.delete(device)
      const oldest = last.keys().next().value
      if (last.size >= devicesMax && oldest !== undefined) last.delete(oldest)
      last.set(device, now())
    }
  }
}
