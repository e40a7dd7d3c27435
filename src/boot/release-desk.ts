/**
 * What people wish of channels, carried out: proposals, signatures and withdrawals as events, keys in the vault. Publishing itself is `publisher.ts`, packing
 * `release-pack.ts`.
 *
 * One open proposal of a role and node is enough: a new one takes over what this node's open one says and adds its own, and the open one is withdrawn with the same
 * command, so that nobody signs it in vain. What other nodes propose is not taken over: who signs the new one would sign theirs with it.
 */
import { type Root, Targets } from "@tufjs/models"
import { Effect, Result } from "effect"
import type { Call } from "../api/operation.ts"
import type { ProposalRow } from "../api/operations/release.ts"
import type { ReleaseDesk } from "../api/release-desk.ts"
import { asRefusal } from "../api/unlocking.ts"
import { timeText } from "../api/handlers/reading.ts"
import { isHex, toHex } from "../codec/bytes.ts"
import type { KeyPair } from "../codec/signature.ts"
import { rankOf } from "../codec/operation.ts"
import type { Done, Wanted } from "../commands/dispatch.ts"
import { Refusal } from "../commands/refusal.ts"
import { logKey } from "../events/hypercore-store.ts"
import { findMember } from "../projections/membership.ts"
import { type ChannelBook, delegatedRoles, type Waiting } from "../updates/publish/book.ts"
import { firstRoot, nextRoot, nextTargets, planOf, type RolePlan, type TargetsChange } from "../updates/publish/build.ts"
import { makeKeyFile, openKeyFile, readKeyFilePublic } from "../updates/publish/key-file.ts"
import { canonicalBytes, keyIdOf, parseSigned, sha256, signs, signWith } from "../updates/publish/signed.ts"
import type { Publisher } from "./publisher.ts"
import { packRelease } from "./release-pack.ts"
import { channelRow, proposalRows } from "./release-rows.ts"

/** Before this much of the time of root or targets is left a person is told, milliseconds. */
const expiresSoonMs = 60 * 86_400_000

export const makeReleaseDesk = (publisher: Publisher): ReleaseDesk => {
  const { parts } = publisher
  const { node, now } = parts
  const work = <A>(run: (signal: AbortSignal) => Promise<A>): Effect.Effect<A, Refusal> => Effect.tryPromise({ try: run, catch: asRefusal })
  const say = (name: string, call: Call, summary: string, events: ReadonlyArray<Wanted>): Promise<Done> =>
    Effect.runPromise(Effect.result(node().dispatch.run(`release.${name}`, call, ["releases"], Effect.succeed({ summary, events })))).then((result) => {
      if (Result.isFailure(result)) throw result.failure
      return { ...result.success, summary }
    })

  const keys = makeKeys(publisher)
  const find = (text: string | undefined): ChannelBook => findChannel(publisher.books(), text)
  /** The book with what the log holds, when that is here. */
  const current = async (book: ChannelBook): Promise<ChannelBook> => (await publisher.open(book))?.book ?? book
  const rowsOf = (ids: ReadonlyArray<string>) => publisher.books().flatMap((book) => proposalRows(node(), book)).filter(({ id }) => ids.includes(id))

  /** The events that propose these, in place of open ones of this node, signed by what is at hand. */
  const proposing = async (book: ChannelBook | undefined, drafts: ReadonlyArray<Draft>, signer: ReadonlyArray<KeyPair>): Promise<{ readonly ids: ReadonlyArray<string>; readonly events: ReadonlyArray<Wanted> }> => {
    const events: Array<Wanted> = []
    const ids: Array<string> = []
    for (const { role, signed, summary, may } of drafts) {
      const bytes = canonicalBytes(signed)
      const id = sha256(bytes)
      const channel = book?.id ?? ids[0] ?? id
      const subject = `release/${channel.slice(0, 16)}`
      for (const open of book?.waiting ?? []) {
        if (open.proposal.role === role && open.proposal.by === node().vault.deviceId && open.proposal.id !== id) {
          events.push({ type: "release.withdrawn/1", subject, body: { channel, proposal: open.proposal.id, reason: `${id.slice(0, 8)} takes its place` } })
        }
      }
      events.push({ type: "release.proposed/1", subject, body: { channel, role, version: signed.version, unsigned: bytes, summary: summary.slice(0, 512) } })
      for (const pair of signer) {
        if (!may.includes(toHex(pair.publicKey))) continue
        events.push({ type: "release.signed/1", subject, body: { channel, proposal: id, ...signatureOf(bytes, pair) } })
      }
      ids.push(id)
    }
    return { ids, events }
  }

  const proposed = async (name: string, call: Call, summary: string, book: ChannelBook | undefined, drafts: ReadonlyArray<Draft>, signer: ReadonlyArray<KeyPair>) => {
    const { ids, events } = await proposing(book, drafts, signer)
    const done = await say(name, call, summary, events)
    const proposals = rowsOf(ids)
    return { ...done, proposals, next: nextOf(proposals, signer) }
  }

  const targetsDraft = (book: ChannelBook, role: string, change: TargetsChange, summary: string): Draft & { readonly dropped: ReadonlyArray<string> } => {
    const before = role === "targets" ? book.targets?.signed : book.delegated.get(role)?.signed
    const open = newestOpen(book, role, node().vault.deviceId)
    // An open one of this node says what the next version is to hold; of it only the version is made anew.
    const base = open === undefined ? before : atVersion(open, before?.version ?? 0)
    const { targets, dropped } = nextTargets(role, base, change, now())
    return { role, signed: targets, summary, dropped, may: mayTargets(book, role) }
  }

  return {
    key: (input, call) => work(async () => {
      const { out, name, force, passphrase = "" } = input
      const called = name ?? node().members.nameOf(node().vault.deviceId)
      if (out !== undefined) {
        const made = await makeKeyFile(out, { name: called, passphrase, force })
        const done = await say("key", call, `a signer's key is in ${out}`, [{ type: "command.done/1", subject: "release", body: { name: "release.key", detail: `made a signer's key in a file: ${made.publicKey}` } }])
        return { ...done, key: made.publicKey, name: called, file: out, sealed: made.sealed }
      }
      const pair = await node().vault.makeReleaseKeyPair(() => "signer")
      const key = toHex(pair.publicKey)
      const told = node().tables.updates.signers().find(({ body, log }) => body.key === key && node().members.deviceOf(log) === node().vault.deviceId)
      const same = told !== undefined && (name === undefined || told.body.name === name)
      const done = await say("key", call, "this node signs releases with this key", same ? [] : [{ type: "release.signer/1", subject: "release", body: { key, name: called.slice(0, 64) } }])
      return { ...done, key, name: same ? told.body.name : called, sealed: node().vault.sealed() !== undefined }
    }),

    init: (input, call) => work(async () => {
      const { name } = input
      const taken = publisher.books().find((book) => book.name === name && isAlive(book))
      if (taken !== undefined) throw new Refusal({ kind: "conflict", detail: `there is a channel ${name} already (${taken.id.slice(0, 8)})`, hint: "kos release list" })
      const signers = await keys.resolve(input.signer ?? [], true)
      const rootSigners = input.rootSigner === undefined ? signers : await keys.resolve(input.rootSigner, false)
      const targets: RolePlan = { keys: signers, threshold: input.threshold ?? majority(signers) }
      const root: RolePlan = { keys: rootSigners, threshold: input.rootThreshold ?? (input.rootSigner === undefined ? targets.threshold : majority(rootSigners)) }
      const signer = await keys.atHand(input)
      // A wish that cannot be is refused before any key is made.
      firstRoot({ name, log: "00".repeat(32), online: "00".repeat(32), root, targets }, now())
      const first = firstRoot({ name, log: await keys.freshLog(), online: await keys.freshOnline(), root, targets }, now())
      const empty = nextTargets("targets", undefined, {}, now()).targets
      const answer = await proposed("init", call, `channel ${name} is proposed to its signers`, undefined, [
        { role: "root", signed: first, summary: `begins channel ${name}`, may: root.keys }, { role: "targets", signed: empty, summary: "no releases yet", may: targets.keys }
      ], signer)
      const [id = ""] = answer.proposals.map(({ channel }) => channel)
      return { ...answer, channel: channelRow(node(), find(id), undefined) }
    }),

    pack: (input, call) => work(async (signal) => {
      const book = await current(find(input.channel))
      const signer = await keys.atHand(input)
      const packed = await packRelease(publisher, book, input, call, signal)
      const draft = targetsDraft(book, packed.role, { add: packed.entry }, `${packed.entry.path}${input.security ? ", mends a security problem" : ""}`)
      const answer = await proposed("pack", call, `${packed.entry.path} is packed and proposed to the signers`, book, [draft], signer)
      return {
        ...answer, release: packed.entry.sha256, target: packed.entry.path, payloadBytes: packed.payloadBytes, indexBytes: packed.entry.length, packs: packed.packs, dropped: draft.dropped
      }
    }),

    sign: (input, call) => work(async () => {
      const all = input.channel === undefined ? publisher.books() : [find(input.channel)]
      const opened = await Promise.all(all.map(async (book) => (await publisher.open(book))?.book))
      const held = new Set(opened.flatMap((book) => book?.id ?? []))
      const books = all.map((book, at) => opened[at] ?? book)
      const pairs = await keys.atHand(input)
      const publics = pairs.map(({ publicKey }) => toHex(publicKey))
      const lacking = books.flatMap((book) => book.waiting.filter((one) => publics.some((key) => mayOf(book, one).includes(key) && !hasSigned(one, key))).map((one) => ({ book, one })))
      if (input.proposal === undefined) {
        const proposals = books.flatMap((book) => proposalRows(node(), book)).filter(({ state, channel }) => state === "waiting" || (state === "complete" && held.has(channel)))
        const [mine] = lacking
        return {
          summary: proposals.length === 0 ? "nothing waits for signatures" : `${proposals.length} proposal${proposals.length === 1 ? " is" : "s are"} open, ${lacking.length} of them for ${input.key === undefined ? "this node's key" : "this key"}`,
          events: [], proposals, next: mine === undefined ? nextOf(proposals, pairs) : `kos release sign ${mine.one.proposal.id.slice(0, 8)}`
        }
      }
      if (pairs.length === 0) throw new Refusal({ kind: "denied", detail: "this node has no signer's key", hint: "kos release key" })
      const wanted = input.proposal === "all" ? lacking : [findWaiting(books, input.proposal)]
      const events: Array<Wanted> = []
      const ids: Array<string> = []
      for (const { book, one } of wanted) {
        const may = mayOf(book, one)
        const able = pairs.filter(({ publicKey }) => may.includes(toHex(publicKey)))
        const name = `${book.name} ${one.proposal.role} ${one.proposal.version}`
        if (able.length === 0) throw new Refusal({ kind: "denied", detail: `${input.key === undefined ? `this node's key ${publics[0]?.slice(0, 16) ?? ""}` : "this key"} is none of those that sign ${name}`, hint: `kos release show ${one.proposal.id.slice(0, 8)}` })
        for (const pair of able) {
          if (hasSigned(one, toHex(pair.publicKey))) continue
          events.push({ type: "release.signed/1", subject: `release/${book.id.slice(0, 16)}`, body: { channel: book.id, proposal: one.proposal.id, ...signatureOf(one.proposal.bytes, pair) } })
        }
        ids.push(one.proposal.id)
      }
      const done = await say("sign", call, events.length === 0 ? "it is signed already" : `${events.length} signature${events.length === 1 ? "" : "s"} given`, events)
      const proposals = rowsOf(ids)
      return { ...done, proposals, next: nextOf(proposals, pairs) }
    }),

    publish: (input, call) => work(async () => {
      const { id, name } = find(input.channel)
      const { channel, says, left } = await publisher.publish(id, { indexes: input.packed === undefined ? [] : [input.packed], trustClock: input.trustClock })
      const [why] = left
      if (says.length === 0 && why !== undefined) throw new Refusal({ kind: "conflict", detail: `nothing was published: ${why}`, hint: "kos release publish --packed DIR" })
      const row = channelRow(node(), channel.book, channel)
      const summary = says.length === 0 ? `there is nothing new to publish in ${name}` : `${name} is published`
      const done = await say("publish", call, summary, says.length === 0 ? [] : [{ type: "command.done/1", subject: `release/${id.slice(0, 16)}`, body: { name: "release.publish", detail: `${name}: ${says.join("; ")}`.slice(0, 1_024) } }])
      const { roots, targets } = channel.held
      const soon = [["root", roots.at(-1)] as const, ["targets", targets] as const].flatMap(([role, file]) => file !== undefined && Date.parse(file.metadata.signed.expires) - now() < expiresSoonMs
        ? [`${role} ${file.metadata.signed.version} is good until ${file.metadata.signed.expires.slice(0, 10)} only; kos release rotate ${name} renews it.`] : [])
      return {
        ...done, channel: row, published: says, follow: row.code === "" ? "" : `kos update channel ${name} --follow ${row.code}`,
        notes: [...left.map((fault) => `Left for now: ${fault}.`), ...soon, ...row.waiting.filter(({ state }) => state === "waiting").map((one) => `${one.role} ${one.version} (${one.id.slice(0, 8)}) still waits for signatures.`)]
      }
    }),

    yank: (input, call) => work(async () => {
      const book = await current(find(input.channel))
      const found = findRelease(book, input.release)
      const draft = targetsDraft(book, found.role, { yank: { target: found.path, id: found.id, reason: input.reason } }, `yanks ${found.path}: ${input.reason}`)
      return proposed("yank", call, `it is proposed to take ${found.path} out of ${book.name}`, book, [draft], await keys.atHand(input))
    }),

    rotate: (input, call) => work(async () => {
      const book = await current(find(input.channel))
      const root = book.roots.at(-1)?.signed
      if (root === undefined) throw new Refusal({ kind: "conflict", detail: `the first root of ${book.name} has not enough signatures yet`, hint: "kos release sign" })
      const signer = await keys.atHand(input)
      const targets = await changedPlan(planOf(root, "targets"), input.addSigner, input.removeSigner, input.threshold, keys.resolve)
      const rootPlan = await changedPlan(planOf(root, "root"), input.addRootSigner, input.removeRootSigner, input.rootThreshold, keys.resolve)
      const nothing = targets === undefined && rootPlan === undefined && !input.online && !input.log
      const log = input.log ? await keys.freshLog() : undefined
      const online = input.online || input.log ? await keys.freshOnline() : undefined
      const next = nextRoot(root, {
        ...(targets === undefined ? {} : { targets }), ...(rootPlan === undefined ? {} : { root: rootPlan }), ...(online === undefined ? {} : { online }), ...(log === undefined ? {} : { log })
      }, now())
      const renewRoot = !nothing || Date.parse(root.expires) - now() < 365 * 86_400_000
      const what = nothing ? "renews the dates" : [
        ...(targets === undefined && rootPlan === undefined ? [] : ["other signers"]), ...(log === undefined ? [] : ["another publishing node"]), ...(online !== undefined && log === undefined ? ["another key of the publishing node"] : [])
      ].join(", ")
      const drafts: ReadonlyArray<Draft> = [
        ...(renewRoot ? [{ role: "root", signed: next, summary: what, may: [...new Set([...planOf(root, "root").keys, ...planOf(next, "root").keys])] }] : []),
        // Targets that the new root's keys did not sign would be worth nothing under it.
        ...(nothing || !stillSigned(book, planOf(next, "targets")) ? [{ ...targetsDraft(book, "targets", {}, nothing ? "renews the dates" : "signed anew"), may: planOf(next, "targets").keys }] : [])
      ]
      return proposed("rotate", call, `it is proposed: ${what}`, book, drafts, signer)
    }),

    delegate: (input, call) => work(async () => {
      const book = await current(find(input.channel))
      const signers = await keys.resolve(input.signer, false)
      const draft = targetsDraft(book, "targets", { delegate: { area: input.area, publisher: input.publisher, keys: signers, threshold: input.threshold ?? majority(signers) } }, `lets ${input.publisher} sign ${input.area}/${input.publisher}/*`)
      return proposed("delegate", call, `it is proposed to let ${input.publisher} sign ${input.area}/${input.publisher}/*`, book, [draft], await keys.atHand(input))
    }),

    withdraw: (input, call) => work(async () => {
      const books = await Promise.all(publisher.books().map(current))
      const { book, one } = findOpen(books, input.proposal)
      const me = node().members.view().members.get(node().vault.deviceId)
      if (one.by !== node().vault.deviceId && (me === undefined || rankOf(me.role) < rankOf("admin"))) {
        throw new Refusal({ kind: "denied", detail: `${one.id.slice(0, 8)} was proposed by ${node().members.nameOf(one.by)}; that node or an admin may withdraw it` })
      }
      return say("withdraw", call, `${one.role} ${one.version} of ${book.name} is withdrawn`, [{ type: "release.withdrawn/1", subject: `release/${book.id.slice(0, 16)}`, body: { channel: book.id, proposal: one.id, reason: input.reason ?? "" } }])
    }),

    list: (input) => work(async () => Promise.all((input.channel === undefined ? publisher.books().filter(isAlive) : [find(input.channel)]).map(async (book) => {
      const channel = await publisher.open(book)
      return channelRow(node(), channel?.book ?? book, channel)
    }))),

    show: (input) => work(async () => {
      const books = await Promise.all(publisher.books().map(current))
      const rows = books.flatMap((book) => proposalRows(node(), book))
      const row = oneOf(rows, input.proposal, "proposal")
      const bytes = publisher.said().proposals.find(({ id }) => id === row.id)?.bytes ?? new Uint8Array()
      const signed = Result.getOrThrow(parseSigned(row.role, bytes))
      return { ...row, bytes: bytes.byteLength, expires: timeText(Date.parse(signed.expires)), signed: JSON.parse(JSON.stringify(signed.toJSON())) }
    })
  }
}

interface Draft {
  readonly role: string
  readonly signed: Root | Targets
  readonly summary: string
  /** Public keys whose signature is of use. */
  readonly may: ReadonlyArray<string>
}

/** Checked before it is said: a signature that does not verify would only be noise. */
const signatureOf = (bytes: Uint8Array, pair: KeyPair): { readonly keyId: string; readonly signature: string } => {
  const made = signWith(bytes, pair)
  if (!signs(bytes, made, toHex(pair.publicKey))) throw new Error("a signature that was just made does not verify")
  return made
}

interface Keys {
  /** Public keys of nodes, hex digits or files; of nobody this node's own, when that is what it means. */
  readonly resolve: (who: ReadonlyArray<string>, ownIfNone: boolean) => Promise<ReadonlyArray<string>>
  /** Key pairs that can sign now: that of the file, else this node's. */
  readonly atHand: (input: { readonly key?: string; readonly passphrase?: string }) => Promise<ReadonlyArray<KeyPair>>
  /** Key of a new log, whose key pair is in the vault. */
  readonly freshLog: () => Promise<string>
  /** Public key of a new key for snapshot and timestamp. */
  readonly freshOnline: () => Promise<string>
}

const makeKeys = ({ parts: { node } }: Publisher): Keys => ({
  freshLog: async () => logKey((await node().vault.makeReleaseKeyPair(({ publicKey }) => logKey(publicKey))).publicKey),
  freshOnline: async () => toHex((await node().vault.makeReleaseKeyPair(({ publicKey }) => toHex(publicKey))).publicKey),
  resolve: async (who, ownIfNone) => {
    const { vault, members, tables } = node()
    const own = async (): Promise<string> => {
      const pair = await vault.releaseKeyPair("signer")
      if (pair === undefined) throw new Refusal({ kind: "not-found", detail: "this node has no signer's key", hint: "kos release key" })
      return toHex(pair.publicKey)
    }
    if (who.length === 0 && ownIfNone) return [await own()]
    return Promise.all(who.map(async (text) => {
      if (text.startsWith("/")) return (await readKeyFilePublic(text)).publicKey
      const member = findMember(members.view(), text)
      if (member === undefined) {
        if (isHex(text, 32)) return text
        throw new Refusal({ kind: "not-found", detail: `${text} is no node of this mesh, no key of 64 hex digits and no absolute path of a key file`, hint: "kos node list" })
      }
      if (member.device === vault.deviceId) return own()
      const said = tables.updates.signers().find(({ log }) => members.deviceOf(log) === member.device)
      if (said === undefined) throw new Refusal({ kind: "not-found", detail: `${member.name} has not said a signer's key`, hint: `kos release key, on ${member.name}` })
      return said.body.key
    }))
  },
  atHand: async ({ key, passphrase = "" }) => {
    if (key !== undefined) return [await openKeyFile(key, passphrase)]
    const pair = await node().vault.releaseKeyPair("signer")
    return pair === undefined ? [] : [pair]
  }
})

const majority = (keys: ReadonlyArray<string>): number => Math.floor(new Set(keys).size / 2) + 1

const changedPlan = async (before: RolePlan, add: ReadonlyArray<string> | undefined, remove: ReadonlyArray<string> | undefined, threshold: number | undefined, resolve: Keys["resolve"]): Promise<RolePlan | undefined> => {
  if (add === undefined && remove === undefined && threshold === undefined) return undefined
  const [more, less] = [await resolve(add ?? [], false), await resolve(remove ?? [], false)]
  const absent = less.find((key) => !before.keys.includes(key))
  if (absent !== undefined) throw new Refusal({ kind: "not-found", detail: `${absent.slice(0, 16)} is none of the keys that sign`, hint: "kos release list" })
  return { keys: [...before.keys.filter((key) => !less.includes(key)), ...more.filter((key) => !before.keys.includes(key))], threshold: threshold ?? before.threshold }
}

/** Are the targets in force signed by enough of these keys? */
const stillSigned = ({ targets }: ChannelBook, plan: RolePlan): boolean => targets !== undefined && plan.keys.filter((key) => {
  const signature = targets.signatures[keyIdOf(key)]
  return signature !== undefined && signs(canonicalBytes(targets.signed), { keyId: signature.keyID, signature: signature.sig }, key)
}).length >= plan.threshold

const mayOf = (book: ChannelBook, { proposal, needs }: Waiting): ReadonlyArray<string> =>
  [...new Set([...needs.flatMap(({ keys }) => keys), ...(proposal.role === "root" ? [] : mayTargets(book, proposal.role))])]

/** Keys that sign a role now, or once a root that waits is complete. */
const mayTargets = (book: ChannelBook, role: string): ReadonlyArray<string> => {
  const delegation = role === "targets" ? undefined : book.targets?.signed.delegations?.roles?.[role]
  if (role !== "targets") return (delegation?.keyIDs ?? []).flatMap((id) => book.targets?.signed.delegations?.keys[id]?.keyVal["public"] ?? [])
  const roots = [book.roots.at(-1)?.signed, ...book.waiting.map(({ signed }) => signed)].filter((signed) => signed !== undefined && !(signed instanceof Targets))
  return [...new Set(roots.flatMap((root) => planOf(root, "targets").keys))]
}

const hasSigned = ({ needs }: Waiting, key: string): boolean => needs.some(({ signed }) => signed.includes(key))

/** What this node proposed and what is not complete yet; what others propose is theirs to get through. */
const newestOpen = ({ waiting }: ChannelBook, role: string, device: string): Targets | undefined => {
  const open = waiting.filter(({ proposal }) => proposal.role === role && proposal.by === device).at(-1)?.signed
  return open instanceof Targets ? open : undefined
}

const atVersion = (targets: Targets, version: number): Targets => Targets.fromJSON({ ...targets.toJSON(), version })

/** Its first root was not withdrawn, or too late. */
const isAlive = (book: ChannelBook): boolean => book.roots.length > 0 || !book.closed.some(({ proposal }) => proposal.id === book.id)

const findChannel = (books: ReadonlyArray<ChannelBook>, text: string | undefined): ChannelBook => {
  const open = books.filter(isAlive)
  const found = text === undefined ? open : open.some(({ name }) => name === text) ? open.filter(({ name }) => name === text) : /^[0-9a-f]{8,64}$/.test(text) ? books.filter(({ id }) => id.startsWith(text)) : []
  const [book] = found
  const list = open.map(({ name, id }) => `${name} (${id.slice(0, 8)})`).join(", ")
  if (book === undefined) throw new Refusal({ kind: "not-found", detail: text === undefined ? "no channel is made in this mesh" : `no channel ${text} is made in this mesh${list === "" ? "" : `; there is ${list}`}`, hint: "kos release init NAME" })
  if (found.length > 1) throw new Refusal({ kind: "usage", detail: `which channel is meant: ${list}`, hint: "--channel NAME" })
  return book
}

const oneOf = <T extends { readonly id: string }>(all: ReadonlyArray<T>, text: string, what: string): T => {
  const found = /^[0-9a-f]{4,64}$/.test(text) ? all.filter(({ id }) => id.startsWith(text)) : []
  const [one] = found
  if (one === undefined) throw new Refusal({ kind: "not-found", detail: `there is no ${what} ${text.slice(0, 64)}`, hint: "kos release sign" })
  if (found.length > 1) throw new Refusal({ kind: "usage", detail: `${found.length} begin with ${text}; give more digits` })
  return one
}

const findWaiting = (books: ReadonlyArray<ChannelBook>, text: string): { readonly book: ChannelBook; readonly one: Waiting } => {
  const { id } = findOpen(books, text).one
  for (const book of books) for (const one of book.waiting) if (one.proposal.id === id) return { book, one }
  throw new Refusal({ kind: "conflict", detail: `${id.slice(0, 8)} has enough signatures`, hint: "kos release publish" })
}

const findOpen = (books: ReadonlyArray<ChannelBook>, text: string) => {
  const all = books.flatMap((book) => [...book.waiting.map(({ proposal }) => proposal), ...[...book.due.roots, ...book.due.targets, ...book.due.delegated].map(({ proposal }) => proposal)].map((one) => ({ id: one.id, book, one })))
  const closed = books.flatMap((book) => book.closed).find(({ proposal }) => text.length >= 4 && proposal.id.startsWith(text))
  if (closed !== undefined && !all.some(({ id }) => id.startsWith(text))) throw new Refusal({ kind: "conflict", detail: `${closed.proposal.id.slice(0, 8)} is closed: ${closed.why}`, hint: "kos release sign" })
  return oneOf(all, text, "open proposal")
}

const findRelease = (book: ChannelBook, text: string): { readonly role: string; readonly path: string; readonly id: string } => {
  const all = [["targets", book.targets] as const, ...delegatedRoles(book.targets?.signed).map((role) => [role, book.delegated.get(role)] as const)]
    .flatMap(([role, metadata]) => Object.values(metadata?.signed.targets ?? {}).map(({ path, hashes }) => ({ role, path, id: hashes["sha256"] ?? "" })))
  const found = all.filter(({ path, id }) => path === text || path.slice(path.lastIndexOf("/") + 1) === text || path.slice(path.lastIndexOf("/") + 1).startsWith(`${text}@`) || (/^[0-9a-f]{8,64}$/.test(text) && id.startsWith(text)))
  const [one] = found
  if (one === undefined) throw new Refusal({ kind: "not-found", detail: `there is no release ${text} in ${book.name}`, hint: "kos release list" })
  if (found.length > 1) throw new Refusal({ kind: "usage", detail: `${text} is ${found.map(({ path }) => path).join(" and ")}; name one of them` })
  return one
}

/** What to type next for these proposals; `own` are the keys that are at hand. */
const nextOf = (proposals: ReadonlyArray<ProposalRow>, own: ReadonlyArray<KeyPair>): string => {
  const waiting = proposals.find(({ state }) => state === "waiting")
  if (waiting !== undefined) {
    const keys = own.map(({ publicKey }) => toHex(publicKey))
    const lacks = waiting.needs.some(({ signers }) => signers.some(({ key, signed }) => !signed && keys.includes(key)))
    return `kos release sign ${waiting.id.slice(0, 8)}${lacks ? "" : ", on another signer's node or with --key FILE"}`
  }
  const complete = proposals.find(({ state }) => state === "complete")
  return complete === undefined ? "" : `kos release publish ${complete.channelName}`
}
