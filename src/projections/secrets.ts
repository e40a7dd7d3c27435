/**
 * Secrets: what may be used by whom, who holds what, and who has destroyed it, as a pure function of what events say, of membership and of
 * the agents' documents. Design section 5; bytes in `codec/secret-item.ts`, rows in `tables/secrets.ts`, the acts in
 * `commands/secret-keeper.ts`, what must be kept and destroyed in `vault/secret-store.ts`.
 *
 * **The difficulty.** Logs are for ever and everybody keeps copies of them. A key that stands in a log sealed to a device key could be opened
 * as long as that device lives, so nothing could ever be removed. Item keys outside the logs could be destroyed, but would not travel
 * over three days and a stick.
 *
 * **The answer: reader keys that die.** Each device that may read announces a *reader key* (`secret.reader/1`, in its own log and so signed by it).
 * The private half lies in this home only. An item key travels in a log, sealed to the present reader key of each recipient device. Who
 * finds a box for itself takes the item key out, keeps it in its store and says so (`secret.held/1`). To destroy an item key a device
 * forgets it, makes a new reader key, overwrites the store in which the old private half and the item key were, and says so
 * (`secret.shredded/1`, the receipt). From then on the boxes in all logs, sealed to a key of which no private half exists, are noise: to
 * the whole mesh, and to whoever gets this device with its device key and every log.
 *
 * **How a secret travels.** `kos vault set`: a random item key; the value sealed under it; one event `secret.set/1` with the cipher, the names
 * of the recipients and a box for each recipient device whose reader key is known here. It goes the way of all events, by stick too. A
 * recipient device that came later, or has a new reader key, gets a box from whoever holds the item key (`secret.shared/1`): the
 * author at once, others after a moment if it is still needed. To use a secret a device needs its store and its own tables, no peer.
 *
 * **Recipients.** `node:DEVICE`; `role:ROLE`, all devices that have exactly this role now, as with configuration layers; `agent:NAME`, the
 * devices that its document says run it (`where`). They are looked up at each step, not frozen: a device that comes into a role is
 * given its secrets, one that goes out destroys them. So who may change a role or an agent's `where` decides who gets its secrets, and
 * who may change an agent's definition decides what is done with them; both are events. An author that is no recipient keeps the item key
 * as a *courier* until every recipient device says that it holds it; whoever is a recipient no more keeps it until one that is one says so. A
 * courier gives it on and cannot use it.
 * Who asks counts as well: `agent:NAME` gets what is for `agent:NAME`, on a device that runs it; people and the device get what is for the
 * device or its role. What was denied is an event.
 *
 * **Who may say what.** A name belongs to the device that set it (`owner` in each version). A version counts when its author may write, and
 * is the owner, or an admin or owner of the mesh. A removal counts for the versions that it names when its author is their owner or author,
 * or an admin or owner. Rights are those of now: who is demoted loses what it did with other people's names, and the version
 * before is in force again; therefore each device keeps the item key of one version before the one in force.
 *
 * **Which version is in force.** Of one owner's versions that count and are not removed: the greatest by (version, stamp, log, place). Two
 * owners of one name (set at the same time, or in bad faith): the one of higher rank, then by the same order; all are kept and the name is
 * shown as contested with both authors. A bad-faith member can so shadow the name of one who is not above it; it reads nothing by that and is seen.
 *
 * **Invariants.**
 * 1. The view is a function of the set of rows; no clock, no chance.
 * 2. An item key stands in no event but sealed to a reader key, and no reader key's private half outlives an item key that was sealed to it
 *    and had to be destroyed.
 * 3. A box is believed because the item key in it fits the version's commitment, not because of who sent it.
 * 4. What is removed stays removed: a removal names versions, and versions have names that nobody else can make.
 *
 * **Tricky cases and the answers chosen.**
 * - A recipient is away when a secret is removed: it goes on using it until it hears of it, then destroys it; its receipt is open until then, and shown so.
 * - Removed and rotated at the same time: the version that the remover did not know stays and is listed; remove it again.
 * - Sealed to a reader key that was replaced at the same moment: nobody can open the box; the recipient's new key says that it holds nothing,
 *   so a holder gives it again. When the author is gone for ever and nobody else holds it, it is lost, and the list says that nobody holds it.
 * - A box that does not open (a holder in bad faith): the device makes a new reader key and names whom it does not believe; others share anew.
 * - A store that was lost (card, damage) is the same case: a new reader key that holds nothing.
 * - A revoked device keeps what it had: nothing can be destroyed there. The list says `rotate` for every secret whose value it could know, and
 *   goes on saying so after a mere re-encryption, until a new value is set.
 * - An old backup of a home holds an old store. A receipt speaks of the device, not of its backups.
 */
import { rankOf } from "../codec/operation.ts"
import { compareStamps } from "../codec/clock.ts"
import { readAgent } from "./families/agents.ts"
import { agentDoc } from "./families/doc-id.ts"
import type { Members } from "./members.ts"
import type { Member, Membership, MemberLog } from "./membership.ts"
import type { BoxRow, ReaderRow, ReceiptRow, Said, Secrets, SetRow } from "./tables/secrets.ts"
import type { Tables } from "./tables/tables.ts"

/** Versions of one name whose item keys a recipient keeps: the one in force and the one before. */
export const versionsKeptMax = 2

export interface SecretVersion extends SetRow {
  /** Device that wrote it. */
  readonly author: string
}

export interface Removal extends Said {
  readonly by: string
  readonly ms: number
}

/** One owner's versions of a name, the one in force first. */
export interface SecretLine {
  readonly name: string
  /** Device that the name belongs to. */
  readonly owner: string
  readonly live: ReadonlyArray<SecretVersion>
}

export interface Secret {
  readonly name: string
  /** By precedence; the first one's first version is in force. Empty when all is removed. */
  readonly lines: ReadonlyArray<SecretLine>
  readonly removed: ReadonlyArray<SecretVersion & { readonly removal: Removal }>
  /** The highest version number that was ever given to this name. */
  readonly versionMax: number
}

export interface ReaderState {
  readonly key: string
  readonly generation: number
  /** Devices that it does not take boxes from. */
  readonly refused: ReadonlySet<string>
}

/** A recipient device that is to be given an item key. */
export interface Lacking {
  readonly version: SecretVersion
  readonly device: string
  readonly reader: string
}

/** Where an agent is to run, by its document: `where`; undefined when there is no such agent. */
export type PlacesOf = (agent: string) => ReadonlyArray<string> | undefined

export class SecretsView {
  readonly secrets: ReadonlyMap<string, Secret>
  readonly #membership: Membership
  readonly #places: PlacesOf
  readonly #versions = new Map<string, SecretVersion>()
  readonly #readers: ReadonlyMap<string, ReaderState>
  /** By reader key: the devices that announced it, normally one, with the generation that it is there. */
  readonly #generations = new Map<string, Map<string, number>>()
  /** By version: boxes with the device that they are sealed to, and receipts by device. */
  readonly #boxes = new Map<string, Array<{ readonly reader: string; readonly device: string; readonly by: string }>>()
  readonly #receipts = new Map<string, Array<{ readonly device: string; readonly what: "held" | "shredded"; readonly reader: string; readonly ms: number }>>()

  constructor(rows: Pick<Secrets, "sets" | "boxes" | "readers" | "receipts">, membership: Membership, places: PlacesOf) {
    this.#membership = membership
    this.#places = places
    const deviceOf = (said: Said): string | undefined => membership.devices.get(said.log)
    const readers = rows.readers()
    for (const row of readers) {
      const device = deviceOf(row)
      if (device === undefined) continue
      const known = this.#generations.get(row.key)
      if (known === undefined) this.#generations.set(row.key, new Map([[device, row.generation]]))
      else known.set(device, Math.max(known.get(device) ?? 0, row.generation))
    }
    this.#readers = newestReaders(readers, deviceOf)
    for (const row of rows.boxes()) this.#takeBox(row, deviceOf(row))
    const removals = new Map<string, Array<Removal>>()
    for (const row of rows.receipts()) {
      const device = deviceOf(row)
      if (device === undefined) continue
      if (row.what === "removed") put(removals, row.item, { log: row.log, block: row.block, offset: row.offset, by: device, ms: row.ms })
      else put(this.#receipts, row.item, { device, what: row.what, reader: row.reader, ms: row.ms })
    }
    const names = new Map<string, Array<SecretVersion>>()
    for (const row of rows.sets()) {
      const author = deviceOf(row)
      if (author === undefined || !this.#maySet(row, author)) continue
      const version = { ...row, author }
      // One version written twice in one log is one version: the first, and rows come by place.
      if (this.#versions.has(row.item)) continue
      put(names, row.name, version)
      this.#versions.set(row.item, version)
    }
    this.secrets = new Map([...names].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([name, versions]) => [name, this.#secret(name, versions, removals)]))
  }

  version(item: string): SecretVersion | undefined {
    return this.#versions.get(item)
  }

  /** The reader key that is to be sealed to; undefined when the device has announced none, or may not read the mesh. */
  readerOf(device: string): ReaderState | undefined {
    return this.#readers.get(device)
  }

  /** Is this version in force in its line, and not removed? */
  isFirst(version: SecretVersion): boolean {
    return this.#lineOf(version)?.live[0]?.item === version.item
  }

  /** Member devices that are to hold it now, sorted. */
  devicesFor(recipients: ReadonlyArray<string>): ReadonlyArray<string> {
    const devices = new Set<string>()
    for (const recipient of recipients) for (const device of this.#devicesOf(recipient)) devices.add(device)
    return [...devices].toSorted()
  }

  /** May this actor use the version on this device? */
  mayUse(version: SecretVersion, device: string, actor: string): boolean {
    const agent = /^agent:(.*)$/su.exec(actor)
    const meant = version.recipients.filter((recipient) => (agent === null ? !recipient.startsWith("agent:") : recipient === actor))
    return this.devicesFor(meant).includes(device)
  }

  /**
   * Versions whose item keys a device keeps when it has them: as recipient, or as courier: the author until all recipient devices hold it, others
   * until one does, so that an agent that moves, or is taken away for a while, does not lose its secrets. A courier uses nothing.
   */
  keptBy(device: string): { readonly recipient: ReadonlySet<string>; readonly courier: ReadonlySet<string> } {
    const recipient = new Set<string>()
    const courier = new Set<string>()
    for (const { lines } of this.secrets.values()) {
      for (const { live } of lines) {
        const [first] = live
        if (first === undefined) continue
        const wanted = this.devicesFor(first.recipients)
        if (wanted.includes(device)) {
          for (const version of live.slice(0, versionsKeptMax)) if (this.devicesFor(version.recipients).includes(device)) recipient.add(version.item)
        } else {
          const holding = wanted.filter((other) => this.holds(other, first.item)).length
          if (holding === 0 || (first.author === device && holding < wanted.length)) courier.add(first.item)
        }
      }
    }
    return { recipient, courier }
  }

  /** By its own word, under the reader key that it has now. */
  holds(device: string, item: string): boolean {
    const reader = this.#readers.get(device)?.key
    return reader !== undefined && (this.#receipts.get(item) ?? []).some((row) => row.device === device && row.what === "held" && row.reader === reader)
  }

  /** Has the device given this box? */
  gave(by: string, item: string, reader: string): boolean {
    return (this.#boxes.get(item) ?? []).some((box) => box.by === by && box.reader === reader)
  }

  /** Has the device given a receipt under this reader key? */
  receipted(device: string, item: string, reader: string): boolean {
    return (this.#receipts.get(item) ?? []).some((row) => row.device === device && row.what === "shredded" && row.reader === reader)
  }

  /** Recipient devices that do not hold a version in force and that nobody who could has given it to. */
  lacking(): ReadonlyArray<Lacking> {
    const out: Array<Lacking> = []
    for (const { lines } of this.secrets.values()) {
      for (const { live: [version] } of lines) {
        if (version === undefined) continue
        const wanted = this.devicesFor(version.recipients)
        for (const device of wanted) {
          const reader = this.#readers.get(device)
          if (reader === undefined || this.holds(device, version.item)) continue
          const given = (this.#boxes.get(version.item) ?? []).some((box) => box.reader === reader.key && !reader.refused.has(box.by) && (box.by === version.author || wanted.includes(box.by)))
          if (!given) out.push({ version, device, reader: reader.key })
        }
      }
    }
    return out
  }

  /** Devices that could know the item key: the author, those it was sealed to, and those that say they held it. Sorted. */
  exposed(item: string): ReadonlyArray<string> {
    const version = this.#versions.get(item)
    return [...new Set([
      ...(version === undefined ? [] : [version.author]), ...(this.#boxes.get(item) ?? []).map(({ device }) => device), ...(this.#receipts.get(item) ?? []).map(({ device }) => device)
    ])].toSorted()
  }

  /** When the device said that it has destroyed the item key and could not open anything it was sealed in, by its own clock; undefined when it has not. */
  shredded(device: string, item: string): number | undefined {
    const generation = (reader: string): number => this.#generations.get(reader)?.get(device) ?? 0
    const mine = (this.#receipts.get(item) ?? []).filter((row) => row.device === device)
    const sealed = Math.max(0, ...(this.#boxes.get(item) ?? []).filter((box) => box.device === device).map((box) => generation(box.reader)),
      ...mine.filter((row) => row.what === "held").map((row) => generation(row.reader)))
    return mine.filter((row) => row.what === "shredded" && generation(row.reader) > sealed).toSorted((a, b) => a.ms - b.ms)[0]?.ms
  }

  /** Devices that could know the value that is in force: also those that only an earlier version with the same value was given to. */
  knowers(line: SecretLine): ReadonlyArray<string> {
    const devices = new Set<string>()
    for (const version of line.live) {
      for (const device of this.exposed(version.item)) devices.add(device)
      if (version.fresh) break
    }
    return [...devices].toSorted()
  }

  /** Those of them that are no members any more. */
  strangers(line: SecretLine): ReadonlyArray<string> {
    return this.knowers(line).filter((device) => this.#membership.members.get(device)?.standing !== "member")
  }

  /** Owner, admin or the device itself: may it set, rotate and remove what belongs to `owner`? */
  mayChange(device: string, owner: string): boolean {
    return device === owner || this.#isAdmin(device)
  }

  #isAdmin(device: string): boolean {
    const member = this.#membership.members.get(device)
    return member !== undefined && rankOf(member.role) >= rankOf("admin")
  }

  #maySet(row: SetRow, author: string): boolean {
    const log = logOf(this.#membership, author, row.log)
    return log !== undefined && row.block < (log.docsTo ?? Infinity) && row.block < (log.cutAt ?? Infinity) && this.mayChange(author, row.owner)
  }

  #lineOf(version: SecretVersion): SecretLine | undefined {
    return this.secrets.get(version.name)?.lines.find(({ owner }) => owner === version.owner)
  }

  #secret(name: string, versions: ReadonlyArray<SecretVersion>, removals: ReadonlyMap<string, ReadonlyArray<Removal>>): Secret {
    const removed: Array<SecretVersion & { readonly removal: Removal }> = []
    const byOwner = new Map<string, Array<SecretVersion>>()
    for (const version of versions.toSorted(later)) {
      const removal = (removals.get(version.item) ?? []).filter(({ by }) => by === version.owner || by === version.author || this.#isAdmin(by)).toSorted(byPlace)[0]
      if (removal !== undefined) removed.push({ ...version, removal })
      else put(byOwner, version.owner, version)
    }
    const lines = [...byOwner].map(([owner, live]): SecretLine => ({ name, owner, live }))
    lines.sort((a, b) => this.#rank(b.owner) - this.#rank(a.owner) || (a.live[0] === undefined || b.live[0] === undefined ? 0 : later(a.live[0], b.live[0])))
    return { name, lines, removed, versionMax: Math.max(0, ...versions.map(({ version }) => version)) }
  }

  #rank(device: string): number {
    const member = this.#membership.members.get(device)
    return member?.standing === "member" ? rankOf(member.role) : 0
  }

  #devicesOf(recipient: string): ReadonlyArray<string> {
    const members = [...this.#membership.members.values()].filter(mayHold)
    if (recipient.startsWith("node:")) return members.filter(({ device }) => recipient === `node:${device}`).map(({ device }) => device)
    if (recipient.startsWith("role:")) return members.filter(({ role }) => recipient === `role:${role}`).map(({ device }) => device)
    const where = this.#places(recipient.slice("agent:".length)) ?? []
    return members.filter(({ device, name, role }) => where.some((place) => place === "all" || place === name || place === `node:${device}` || place === `role:${role}`)).map(({ device }) => device)
  }

  #takeBox({ item, reader }: BoxRow, by: string | undefined): void {
    if (by === undefined) return
    for (const device of this.#generations.get(reader)?.keys() ?? []) put(this.#boxes, item, { reader, device, by })
  }
}

/** Names of the secrets whose value a device could know: what is to be rotated when it is revoked. */
export const secretsReadableBy = ({ tables, members }: { readonly tables: Tables; readonly members: Members }, device: string): ReadonlyArray<string> =>
  readableBy(new SecretsView(tables.secrets, members.view(), placesIn(tables)), device)

export const readableBy = (view: SecretsView, device: string): ReadonlyArray<string> =>
  [...view.secrets.values()].filter(({ lines }) => lines.some((line) => line.live.length > 0 && view.knowers(line).includes(device))).map(({ name }) => name)

/** Looks agents up in their documents. */
export const placesIn = ({ documents }: Pick<Tables, "documents">): PlacesOf => (agent) => {
  const record = readAgent(documents.state(agentDoc(agent))?.live ?? {})
  return record === undefined || record.state === "removed" ? undefined : record.where
}

/** A device that may be given secrets: a member that reads the mesh. */
export const mayHold = (member: Member): boolean => member.standing === "member" && rankOf(member.role) >= rankOf("reader")

/** Sorts what is in force first. */
const later = (a: SecretVersion, b: SecretVersion): number => b.version - a.version || compareStamps(b, a) || byPlace(b, a)

const byPlace = (a: Said, b: Said): number => (a.log === b.log ? a.block - b.block || a.offset - b.offset : a.log < b.log ? -1 : 1)

const newestReaders = (rows: ReadonlyArray<ReaderRow>, deviceOf: (said: Said) => string | undefined): ReadonlyMap<string, ReaderState> => {
  const newest = new Map<string, ReaderRow>()
  for (const row of rows) {
    const device = deviceOf(row)
    const known = device === undefined ? undefined : newest.get(device)
    if (device === undefined || (known !== undefined && (row.generation - known.generation || compareStamps(row, known) || byPlace(row, known)) <= 0)) continue
    newest.set(device, row)
  }
  return new Map([...newest].map(([device, { key, generation, refused }]) => [device, { key, generation, refused: new Set(refused) }]))
}

const logOf = (membership: Membership, device: string, log: string): MemberLog | undefined => membership.members.get(device)?.logs.find((one) => one.log === log)

const put = <K, V>(map: Map<K, Array<V>>, key: K, value: V): void => {
  const list = map.get(key)
  if (list === undefined) map.set(key, [value])
  else list.push(value)
}
