/**
 * Reads the columns of an Automerge change: LEB128 numbers, run-length encoded, delta encoded and boolean columns.
 *
 * Automerge re-encodes a change when it saves a document and looks at the hash when it loads it, so a change whose
 * columns are not spelled exactly as its encoder would spell them makes a snapshot that can never be loaded. Therefore
 * only the canonical spelling passes: shortest numbers, no run of one, no two runs or literals that could be one, no
 * column that says nothing. A reader never throws: `bad` stays true after the first fault, and reads give 0.
 */

export interface Reader {
  readonly bytes: Buffer
  at: number
  end: number
  bad: boolean
}

export const reader = (bytes: Buffer, at: number, end: number): Reader => ({ bytes, at, end, bad: end > bytes.length || at > end })

const fail = (r: Reader): number => {
  r.bad = true
  r.at = r.end
  return 0
}

/** Bytes of a LEB128 number that stays exact in a double. */
const lebBytesMax = 7

/** Unsigned LEB128 below 2^49, shortest form. */
export const readUint = (r: Reader): number => {
  let value = 0
  let scale = 1
  for (let i = 0; i < lebBytesMax; i++) {
    if (r.at >= r.end) return fail(r)
    const byte = r.bytes[r.at++] ?? 0
    value += (byte & 0x7f) * scale
    if (byte < 0x80) return i > 0 && byte === 0 ? fail(r) : value
    scale *= 128
  }
  return fail(r)
}

/** Signed LEB128 within 2^48, shortest form. */
export const readInt = (r: Reader): number => {
  let value = 0
  let scale = 1
  let before = 0
  for (let i = 0; i < lebBytesMax; i++) {
    if (r.at >= r.end) return fail(r)
    const byte = r.bytes[r.at++] ?? 0
    value += (byte & 0x7f) * scale
    scale *= 128
    if (byte < 0x80) {
      if (i > 0 && ((byte === 0 && (before & 0x40) === 0) || (byte === 0x7f && (before & 0x40) !== 0))) return fail(r)
      return (byte & 0x40) === 0 ? value : value - scale
    }
    before = byte
  }
  return fail(r)
}

/** The place of `size` bytes, which are then behind the reader. */
export const skip = (r: Reader, size: number): number => {
  const start = r.at
  if (size > r.end - r.at) return fail(r)
  r.at += size
  return start
}

/** Stands for null in columns of numbers; all real values are zero or more. */
export const absent = -1

/**
 * The run-length walk that all such columns share: calls `put(value, times)` for runs and `put(absent, times)` for nulls.
 * `read` takes one value; two values are the same when `read` gives equal ones. Ends bad unless exactly `count` items come.
 */
const walkRuns = <A extends number | string>(r: Reader, count: number, read: (r: Reader) => A, put: (value: A | undefined, times: number) => void): void => {
  let left = count
  let lastWasLiteral = false
  let lastWasNull = false
  let last: A | undefined
  let values = 0
  while (r.at < r.end && !r.bad) {
    const head = readInt(r)
    if (r.bad) return
    if (head > 0) {
      if (head < 2 || head > left) return void fail(r)
      const value = read(r)
      if (r.bad || value === last) return void fail(r)
      put(value, head)
      left -= head
      values += head
      last = value
      lastWasLiteral = lastWasNull = false
    } else if (head < 0) {
      if (lastWasLiteral || -head > left) return void fail(r)
      for (let i = head; i < 0; i++) {
        const value = read(r)
        if (r.bad || value === last) return void fail(r)
        put(value, 1)
        last = value
      }
      left += head
      values -= head
      lastWasLiteral = true
      lastWasNull = false
    } else {
      const times = readUint(r)
      if (r.bad || lastWasNull || times < 1 || times > left) return void fail(r)
      put(undefined, times)
      left -= times
      last = undefined
      lastWasNull = true
      lastWasLiteral = false
    }
  }
  if (left !== 0 || values === 0) fail(r)
}

const fill = (into: Array<number>, value: number, times: number): void => {
  for (let i = 0; i < times; i++) into.push(value)
}

/** Items of a run-length column of unsigned numbers, nulls as `absent`. At most `count` items are made. */
export const readUints = (r: Reader, count: number): Array<number> => {
  const items: Array<number> = []
  walkRuns(r, count, readUint, (value, times) => fill(items, value ?? absent, times))
  return items
}

/** Items of a delta column: each value is the one before plus the difference; all must be zero or more. */
export const readDeltas = (r: Reader, count: number): Array<number> => {
  const items: Array<number> = []
  let sum = 0
  walkRuns(r, count, readInt, (value, times) => {
    if (value === undefined) return fill(items, absent, times)
    for (let i = 0; i < times; i++) {
      sum += value
      if (sum < 0 || sum > Number.MAX_SAFE_INTEGER) fail(r)
      items.push(sum)
    }
  })
  return items
}

/** Items of a run-length column of UTF-8 strings. */
export const readTexts = (r: Reader, count: number, textOf: (bytes: Buffer, start: number, end: number) => string | undefined): Array<string | undefined> => {
  const items: Array<string | undefined> = []
  const read = (r: Reader): string => {
    const start = skip(r, readUint(r))
    const text = r.bad ? undefined : textOf(r.bytes, start, r.at)
    if (text === undefined) fail(r)
    return text ?? ""
  }
  walkRuns(r, count, read, (value, times) => {
    for (let i = 0; i < times; i++) items.push(value)
  })
  return items
}

/** Items of a boolean column: lengths of alternating runs that begin with false. */
export const readBooleans = (r: Reader, count: number): Array<boolean> => {
  const items: Array<boolean> = []
  let value = false
  let first = true
  while (r.at < r.end && !r.bad) {
    const times = readUint(r)
    if (r.bad || times > count - items.length || (times === 0 && !first)) {
      fail(r)
      break
    }
    for (let i = 0; i < times; i++) items.push(value)
    value = !value
    first = false
  }
  if (items.length !== count) fail(r)
  return items
}

/** Number of items of a run-length column of unsigned numbers, found without making them. */
export const countRuns = (r: Reader): number => {
  let count = 0
  while (r.at < r.end && !r.bad) {
    const head = readInt(r)
    if (head > 0) {
      readUint(r)
      count += head
    } else if (head < 0) {
      for (let i = head; i < 0 && !r.bad; i++) readUint(r)
      count -= head
    } else count += readUint(r)
  }
  return count
}
