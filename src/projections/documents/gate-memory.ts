/**
 * The gate's memory as bytes, kept beside a saved document. Numbers are LEB128; what follows from the rest (pasts, heads,
 * generations) is not written. Our own disk is the only source; even so a fault gives undefined, never an exception.
 */
import { reader, type Reader, readUint, skip } from "./column-reader.ts"
import { GateMemory, isHeld, newLine, segmentWords } from "./gate-state.ts"
import { waitingChangesMax } from "./limits.ts"

const version = 2

export const encodeGateMemory = (memory: GateMemory): Uint8Array => {
  const out = new Writer()
  out.uint(version)
  out.list(memory.actors, (actor) => out.hex(actor))
  out.list(memory.changes, (change) => {
    out.hex(change.hash)
    out.uint(change.actor)
    out.uint(change.startOp)
    out.uint(change.count)
    out.list(change.deps, (dep) => out.uint(dep))
    out.uint(change.log + 1)
    out.uint(change.block + 1)
    out.uint(change.offset + 1)
    out.uint(change.ms)
  })
  out.list([...memory.refused], ([hash, why]) => {
    out.hex(hash)
    out.text(why)
  })
  out.list(memory.objectList.slice(1), ({ actor, counter, kind, depth }) => {
    out.uint(actor)
    out.uint(counter)
    out.uint(kinds.indexOf(kind))
    out.uint(depth)
  })
  out.list(memory.keys, (keys) => out.list([...keys.values()], ({ key, first }) => {
    out.text(key)
    out.list(first, (n) => out.uint(n))
  }))
  out.list(memory.segments, (segments) => {
    let before = 0
    out.list(segments, (n, i) => {
      const place = i % segmentWords
      out.uint(place === 0 ? n - before : place === 3 ? n + 1 : n)
      if (place === 0) before = n
    })
  })
  out.list(memory.logs, ({ log, actor, block, offset, queue, cut, to, end, beyondChanges, beyondBytes }) => {
    out.hex(log)
    out.hex(actor)
    out.uint(block + 1)
    out.uint(offset + 1)
    out.uint(Number.isFinite(cut) ? cut + 1 : 0)
    out.uint(to.block + 1)
    out.uint(to.offset + 1)
    out.uint(end === undefined ? 0 : end.block + 1)
    out.uint(end === undefined ? 0 : end.offset + 1)
    out.uint(beyondChanges)
    out.uint(beyondBytes)
    out.list(queue, ({ change }) => {
      out.uint(change.block)
      out.uint(change.offset)
      out.uint(change.ms)
      out.bytes(change.change)
    })
  })
  out.uint(memory.changeBytes)
  return out.take()
}

export const decodeGateMemory = (bytes: Uint8Array): GateMemory | undefined => {
  const r = reader(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0, bytes.byteLength)
  const memory = new GateMemory()
  if (readUint(r) !== version) return undefined
  list(r, () => memory.actor(hex(r)))
  list(r, () => {
    const hash = hex(r)
    const actor = readUint(r)
    const startOp = readUint(r)
    const count = readUint(r)
    const deps = list(r, () => readUint(r))
    const mine = memory.byActor[actor]
    if (mine === undefined || deps.some((dep) => dep >= memory.changes.length)) return void (r.bad = true)
    let generation = 0
    for (const dep of deps) generation = Math.max(generation, memory.changes[dep]?.generation ?? 0)
    const past = pastOf(memory, deps, actor)
    memory.add({
      hash, actor, seq: mine.length + 1, startOp, count, generation: generation + 1, deps, past,
      log: readUint(r) - 1, block: readUint(r) - 1, offset: readUint(r) - 1, ms: readUint(r)
    })
  })
  list(r, () => memory.refused.set(hex(r), text(r)))
  list(r, () => {
    const actor = readUint(r)
    const counter = readUint(r)
    const kind = kinds[readUint(r)]
    const depth = readUint(r)
    if (kind === undefined) r.bad = true
    else memory.object(actor, counter, kind, depth)
  })
  let object = 0
  list(r, () => {
    list(r, () => {
      const info = memory.key(object, text(r))
      for (const n of list(r, () => readUint(r))) info.first.push(n)
      if (info.first.length > 0) memory.keysUsed[object] = (memory.keysUsed[object] ?? 0) + 1
    })
    object++
  })
  let actor = 0
  list(r, () => {
    let before = 0
    let place = 0
    const segments = memory.segments[actor++]
    list(r, () => {
      const n = readUint(r)
      segments?.push(place === 0 ? (before += n) : place === 3 ? n - 1 : n)
      place = (place + 1) % segmentWords
    })
  })
  list(r, () => {
    const line = newLine(hex(r), hex(r))
    line.block = readUint(r) - 1
    line.offset = readUint(r) - 1
    const cut = readUint(r)
    line.cut = cut === 0 ? Infinity : cut - 1
    line.to = { block: readUint(r) - 1, offset: readUint(r) - 1 }
    const end = { block: readUint(r) - 1, offset: readUint(r) - 1 }
    line.end = end.block < 0 ? undefined : end
    line.beyondChanges = readUint(r)
    line.beyondBytes = readUint(r)
    list(r, () => {
      const change = { log: line.log, block: readUint(r), offset: readUint(r), ms: readUint(r), change: take(r) }
      line.queue.push({ change, slot: -1 })
      const held = isHeld(line, change)
      memory[held ? "heldChanges" : "waitingChanges"]++
      memory[held ? "heldBytes" : "waitingBytes"] += change.change.byteLength
    })
    memory.logIndex.set(line.log, memory.logs.push(line) - 1)
  })
  memory.changeBytes = readUint(r)
  if (r.bad || r.at !== r.end || memory.waitingChanges > waitingChangesMax || memory.keys.length !== object) return undefined
  return memory
}

const kinds = ["map", "list", "text"] as const

/** As the gate computes it, for a change that once passed. */
const pastOf = (memory: GateMemory, deps: ReadonlyArray<number>, actor: number): ReadonlyArray<number> => {
  const only = deps.length === 1 ? memory.changes[deps[0] ?? -1] : undefined
  if (only !== undefined && only.actor === actor) return only.past
  const past: Array<number> = []
  const raise = (index: number, seq: number): void => {
    while (past.length <= index) past.push(0)
    if (seq > (past[index] ?? 0)) past[index] = seq
  }
  for (const index of deps) {
    const dep = memory.changes[index]
    if (dep === undefined) continue
    dep.past.forEach((seq, i) => raise(i, seq))
    raise(dep.actor, dep.seq)
  }
  return past
}

const list = <A>(r: Reader, item: () => A): Array<A> => {
  const items: Array<A> = []
  for (let left = readUint(r); left > 0 && !r.bad; left--) items.push(item())
  return items
}

const take = (r: Reader): Uint8Array => {
  const start = skip(r, readUint(r))
  return r.bad ? new Uint8Array(0) : new Uint8Array(r.bytes.subarray(start, r.at))
}
const text = (r: Reader): string => {
  const start = skip(r, readUint(r))
  return r.bad ? "" : r.bytes.toString("utf8", start, r.at)
}
const hex = (r: Reader): string => {
  const start = skip(r, readUint(r))
  return r.bad ? "" : r.bytes.toString("hex", start, r.at)
}

class Writer {
  #buffer = Buffer.allocUnsafe(4096)
  #at = 0

  uint(value: number): void {
    this.#room(8)
    let rest = value
    while (rest >= 0x80) {
      this.#buffer[this.#at++] = (rest % 128) | 0x80
      rest = Math.floor(rest / 128)
    }
    this.#buffer[this.#at++] = rest
  }

  list<A>(items: ReadonlyArray<A>, write: (item: A, index: number) => void): void {
    this.uint(items.length)
    items.forEach(write)
  }

  bytes(bytes: Uint8Array): void {
    this.uint(bytes.byteLength)
    this.#room(bytes.byteLength)
    this.#buffer.set(bytes, this.#at)
    this.#at += bytes.byteLength
  }

  text(text: string): void {
    this.bytes(Buffer.from(text, "utf8"))
  }

  hex(hex: string): void {
    const size = hex.length / 2
    this.uint(size)
    this.#room(size)
    this.#at += this.#buffer.write(hex, this.#at, "hex")
  }

  take(): Uint8Array {
    return new Uint8Array(this.#buffer.subarray(0, this.#at))
  }

  #room(size: number): void {
    if (this.#at + size <= this.#buffer.length) return
    const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#at + size))
    larger.set(this.#buffer.subarray(0, this.#at))
    this.#buffer = larger
  }
}
