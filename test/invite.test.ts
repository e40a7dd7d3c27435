/** Invites as text, words and QR code; what candidate and redeemer say to each other; what a candidate does not believe. */
import { Result } from "effect"
import t from "tap"
import { renderUnicodeCompact } from "uqr"
import { disbelieved, provenRole } from "../src/boot/joining.ts"
import { encodeCbor } from "../src/codec/cbor.ts"
import {
  certifyInvite, type Invite, inviteKey, invitePrefix, inviteQrText, inviteText, inviteWords, isCertified, parseHeldInvite, parseInvite, proveInvite
} from "../src/codec/invite.ts"
import { draftOperation, type Operation, type Statement } from "../src/codec/operation.ts"
import {
  decodePairingAnswer, decodePairingAsk, decodePairingOffer, decodePairingWaiting, encodePairingAnswer, encodePairingAsk, encodePairingOffer, encodePairingWaiting,
  nonceCommit, type PairingAnswer, type PairingAsk, type PairingOffer, pairingProof, pairingWords
} from "../src/codec/pairing.ts"
import { checkWords } from "../src/codec/words.ts"
import { makeCandidates } from "../src/boot/candidates.ts"
import { chance, deviceOf, key, must, mustFail, signed } from "./membership-world.ts"

const invite: Invite = {
  mesh: key("mesh"), meshName: "Hill & Valley", seed: new Uint8Array(16).map((_, i) => i * 37 + 5), issuer: deviceOf("ann"), role: "member",
  expiresMs: 1_800_000_000_000, bootstrap: ["dht.hill.example:49737"], lan: ["192.168.7.12:4077"]
}

t.test("an invite survives text, mail and a careless copy", async (t) => {
  const text = inviteText(invite)
  t.ok(text.startsWith(invitePrefix) && text.length <= 400, `${text.length} characters`)
  t.same(must(parseInvite(text)), invite)
  t.same(must(parseInvite(`  ${text.toUpperCase().replaceAll(/(.{40})/g, "$1\r\n  ")}\n`)), invite)
  const bare = { ...invite, bootstrap: [], lan: [] }
  t.same(must(parseInvite(inviteText(bare))), bare)
  for (const way of [text, text.toUpperCase(), text.replaceAll(/(.{4})/g, "$1 ")]) t.same(must(parseHeldInvite(way)), { seed: invite.seed, told: invite })
})

t.test("a damaged invite says what is wrong", async (t) => {
  const text = inviteText(invite)
  const why = (input: string) => mustFail(parseInvite(input)).why
  t.equal(why(""), "it is empty")
  t.equal(why("hello"), "an invite begins with kos-invite:")
  t.equal(why("kos-inv"), "the invite is cut off")
  t.equal(why(invitePrefix), "the invite is cut off")
  for (const cut of [1, 2, 3, 8, 100]) t.equal(why(text.slice(0, -cut)), "the invite is cut off", `${cut} characters fewer`)
  t.equal(why(`${text}a`), "something was added at the end of the invite")
  t.match(why(`${text}!`), /the character "!" does not occur/)
  t.match(why("a".repeat(5_000)), /longer than/)
  t.match(mustFail(parseHeldInvite("a".repeat(5_000))).why, /longer than/)
  t.equal(mustFail(parseHeldInvite("hello")).why, "an invite begins with kos-invite:")
  const { below, pick } = chance(3)
  for (let i = 0; i < 600; i++) {
    const at = invitePrefix.length + below(text.length - invitePrefix.length)
    const letter = pick([..."abcdefghijklmnopqrstuvwxyz234567"].filter((other) => other !== text[at]))
    if (Result.isSuccess(parseInvite(text.slice(0, at) + letter + text.slice(at + 1)))) t.fail(`a changed character at ${at} passed`)
  }
})

t.test("twelve words carry the invite, however they are written down", async (t) => {
  const { below } = chance(8)
  for (let round = 0; round < 200; round++) {
    const seed = new Uint8Array(16).map(() => below(256))
    const words = inviteWords({ seed }).split(" ")
    t.equal(words.length, 12)
    const ways = [
      words.join(" "), words.join("-"), `  ${words.join("\n")}\n`, words.map((word, i) => `${i + 1}. ${word}`).join(", "),
      words.map((word) => word.slice(0, 4)).join(" "), words.map((word) => word.toUpperCase()).join("  "), words.map((word) => word.slice(0, 4 + below(4))).join(";")
    ]
    for (const way of ways) t.same(must(parseHeldInvite(way)), { seed, told: undefined }, round === 0 ? way : "")
    t.equal(inviteKey({ seed }), inviteKey({ ...invite, seed }), "text and words are one invite")
  }
})

t.test("wrong words get one sentence that names the word and no other", async (t) => {
  const words = inviteWords(invite).split(" ")
  const why = (list: ReadonlyArray<string>) => mustFail(parseHeldInvite(list.join(" "))).why
  t.equal(why(words.slice(1)), "there are 12 words, and these are 11")
  t.equal(why([...words, "zoo"]), "there are 12 words, and these are 13")
  t.match(why(["abandonn", ...words.slice(1)]), /^word 1, "abandonn", is none of the list; did you mean abandon\?$/)
  t.match(why([...words.slice(0, 5), "aba", ...words.slice(6)]), /^word 6, "aba", is none of the list/)
  t.match(why([...words.slice(0, 11), "Ñandú"]), /^word 12, /)
  t.match(mustFail(parseHeldInvite("zoo ".repeat(400))).why, /longer than 1024/)
  // Of 16 invites with a wrong word 15 are noticed at once; the other meets nobody.
  const { below, pick } = chance(9)
  let noticed = 0
  for (let round = 0; round < 400; round++) {
    const at = below(12)
    const wrong = inviteWords({ seed: new Uint8Array(16).map(() => below(256)) }).split(" ")
    const swapped = words.map((word, i) => i === at ? pick(wrong.filter((other) => other !== word)) : word)
    const found = parseHeldInvite(swapped.join(" "))
    if (Result.isFailure(found)) {
      noticed++
      if (round < 3) t.match(found.failure.why, /do not fit together/)
    }
  }
  t.ok(noticed > 350, `${noticed} of 400`)
})

t.test("the QR code holds the text in capitals and fits a terminal", async (t) => {
  t.same(must(parseHeldInvite(inviteQrText(invite))).told, invite)
  t.match(inviteQrText(invite), /^[A-Z0-9:-]+$/, "only characters that take little room in a QR code")
  const lines = renderUnicodeCompact(inviteQrText(invite)).split("\n")
  const width = Math.max(...lines.map((line) => [...line].length))
  t.ok(width <= 79 && lines.length <= 40, `${width} columns, ${lines.length} lines`)
})

t.test("the invite's key says which mesh it is of, and nobody else can", (t) => {
  const certificate = certifyInvite(invite)
  t.ok(isCertified(inviteKey(invite), invite.mesh, invite.issuer, certificate))
  t.notOk(isCertified(inviteKey(invite), key("other"), invite.issuer, certificate))
  t.notOk(isCertified(inviteKey(invite), invite.mesh, deviceOf("ben"), certificate))
  t.notOk(isCertified(inviteKey({ seed: new Uint8Array(16) }), invite.mesh, invite.issuer, certificate))
  t.notOk(isCertified(inviteKey(invite), invite.mesh, invite.issuer, new Uint8Array(0)))
  t.end()
})

const handshake = new Uint8Array(64).fill(9)
const offerOf = (over: Partial<PairingOffer> = {}): PairingOffer => ({
  mesh: invite.mesh, meshName: invite.meshName, role: "member", issuer: invite.issuer, certificate: certifyInvite(invite),
  proof: pairingProof(inviteKey(invite), handshake, "redeemer", deviceOf("ann")), commit: nonceCommit(new Uint8Array(32).fill(3)), ...over
})

t.test("what is said at pairing survives the way; hostile bytes are refused and never throw", async (t) => {
  const ask: PairingAsk = {
    _tag: "Request", invite: inviteKey(invite), log: key("log"), name: "attic", proof: proveInvite(invite, deviceOf("ben"), key("log")),
    nonce: new Uint8Array(32).fill(1), signer: new Uint8Array(32).fill(2), held: new Uint8Array(64).fill(3)
  }
  const open: PairingAsk = { _tag: "Open", proof: new Uint8Array(32).fill(4) }
  const answers: ReadonlyArray<PairingAnswer> = [
    { _tag: "Admitted", mesh: key("mesh"), meshName: "hill", meshKey: new Uint8Array(32).fill(1), operations: [new Uint8Array([1, 2])], bootstrap: ["dht.hill.example:49737"] },
    { _tag: "Refused", reason: "expired", detail: "The invite has expired." }
  ]
  const nonce = new Uint8Array(32).fill(5)
  const cases: ReadonlyArray<readonly [Uint8Array, (bytes: Uint8Array) => Result.Result<unknown, { readonly why: string }>, unknown]> = [
    [encodePairingAsk(ask), decodePairingAsk, ask], [encodePairingAsk(open), decodePairingAsk, open], [encodePairingOffer(offerOf()), decodePairingOffer, offerOf()],
    [encodePairingOffer(offerOf({ certificate: new Uint8Array(0) })), decodePairingOffer, offerOf({ certificate: new Uint8Array(0) })],
    [encodePairingWaiting(nonce), decodePairingWaiting, nonce], ...answers.map((answer) => [encodePairingAnswer(answer), decodePairingAnswer, answer] as const)
  ]
  const { below } = chance(5)
  for (const [bytes, decode, value] of cases) {
    t.same(must(decode(bytes)), value)
    for (let i = 0; i < 300; i++) {
      const broken = new Uint8Array(bytes)
      broken[below(broken.length)] = below(256)
      decode(broken.subarray(0, below(broken.length + 1)))
    }
    for (const [, decodeOther] of cases) if (decodeOther !== decode) t.ok(Result.isFailure(decodeOther(bytes)), "no message is taken for another")
  }
  t.match(mustFail(decodePairingAsk(encodePairingAsk({ ...ask, name: "no name" }))).why, /name/)
  t.match(mustFail(decodePairingAsk(new Uint8Array(2_000))).why, /larger/)
  t.match(mustFail(decodePairingAsk(encodeCbor([3, "open", new Uint8Array(32)]))).why, /version 3 of pairing, here 2: update the older/)
  t.match(mustFail(decodePairingAnswer(encodeCbor([2, "refused", "moon", "x"]))).why, /refusal/)
  t.same(must(decodePairingAsk(encodeCbor([2, "open", open.proof, "of a later version"]))), open, "what follows is left to later versions")
})

t.test("an offer is believed when it knows the invite and its key says so", (t) => {
  const text = { seed: invite.seed, told: invite }
  const words = { seed: invite.seed, told: undefined }
  const why = (held: typeof text | typeof words, offer: PairingOffer, from = deviceOf("ann")) => disbelieved(held, offer, handshake, from)
  for (const held of [text, words]) {
    t.equal(why(held, offerOf()), undefined)
    t.match(why(held, offerOf(), deviceOf("mallory")), /does not know the invite/, "a proof of another device is worth nothing")
    t.match(why(held, offerOf({ proof: new Uint8Array(32) })), /does not know the invite/)
    t.match(disbelieved(held, offerOf(), new Uint8Array(64), deviceOf("ann")), /does not know the invite/, "nor one of another connection")
    t.match(why(held, offerOf({ certificate: new Uint8Array(64) })), /does not say that it is of this mesh/)
  }
  // A member that is no admin knows the invite's public key, but not its secret.
  t.match(why(words, offerOf({ mesh: key("lure") })), /does not say that it is of this mesh/)
  t.match(why(text, offerOf({ mesh: key("lure") })), /another mesh or issuer/)
  t.match(why(words, offerOf({ certificate: new Uint8Array(0) })), /use its text/)
  t.equal(why(text, offerOf({ certificate: new Uint8Array(0) })), undefined)
  t.end()
})

t.test("the six words are the same on both sides, and others whenever anything differs", (t) => {
  const parts = {
    handshakeHash: handshake, candidate: deviceOf("ben"), redeemer: deviceOf("ann"), candidateNonce: new Uint8Array(32).fill(1), redeemerNonce: new Uint8Array(32).fill(2)
  }
  const words = pairingWords(parts)
  t.equal(words.split(" ").length, 6)
  t.equal(pairingWords({ ...parts }), words)
  const others = [
    { handshakeHash: new Uint8Array(64) }, { candidate: deviceOf("mallory") }, { redeemer: deviceOf("mallory") }, { candidateNonce: new Uint8Array(32) },
    { redeemerNonce: new Uint8Array(32) }, { candidate: parts.redeemer, redeemer: parts.candidate }
  ]
  for (const other of others) t.not(pairingWords({ ...parts, ...other }), words, Object.keys(other).join())
  t.notSame(nonceCommit(parts.candidateNonce), nonceCommit(parts.redeemerNonce))
  const first = new Set(Array.from({ length: 64 }, (_, i) => checkWords(new Uint8Array(32).fill(i))))
  t.equal(first.size, 64)
  t.end()
})

/** A mesh by ann, with an invite, and an answer of its operations. */
const world = () => {
  const operations: Array<Operation> = []
  const say = (author: string, says: Statement): Operation => {
    const parents = operations.length === 0 ? [] : [operations.at(-1)?.hash ?? ""]
    const [operation] = signed([draftOperation({ mesh: operations[0]?.hash ?? "", author: deviceOf(author), parents, ms: 1, says })], author)
    if (operation === undefined) throw new Error("not signed")
    operations.push(operation)
    return operation
  }
  const created = say("ann", { kind: "mesh.created", name: "hill", nonce: new Uint8Array(32) })
  say("ann", { kind: "log.attached", log: key("log of ann") })
  const held = { ...invite, mesh: created.hash, issuer: deviceOf("ann") }
  say("ann", { kind: "invite.issued", invite: inviteKey(held), role: "member", expiresMs: held.expiresMs, uses: 1, certificate: certifyInvite(held) })
  const admit = (author: string, device: string): Operation => say(author, {
    kind: "member.admitted", device: deviceOf(device), log: key(`log of ${device}`), name: device, role: "member", invite: inviteKey(held),
    proof: proveInvite(held, deviceOf(device), key(`log of ${device}`))
  })
  const answer = (over: Partial<Extract<PairingAnswer, { _tag: "Admitted" }>> = {}) => ({
    _tag: "Admitted" as const, mesh: created.hash, meshName: "hill", meshKey: new Uint8Array(32), operations: operations.map(({ bytes }) => bytes), bootstrap: [], ...over
  })
  return { say, admit, answer, operations }
}

t.test("an answer is believed when its operations admit this device, with this log, by somebody who may", async (t) => {
  const good = world()
  t.equal(await provenRole(good.answer(), deviceOf("ben"), key("log of ben"), deviceOf("ann")), undefined, "not admitted yet")
  good.admit("ann", "ben")
  t.equal(await provenRole(good.answer(), deviceOf("ben"), key("log of ben"), deviceOf("ann")), "member")
  t.equal(await provenRole(good.answer(), deviceOf("ben"), key("another log"), deviceOf("ann")), undefined, "the log is the one that was made for it")
  t.equal(await provenRole(good.answer(), deviceOf("ben"), key("log of ben"), deviceOf("mallory")), undefined, "who was met is a member")
  t.equal(await provenRole(good.answer({ mesh: key("lure") }), deviceOf("ben"), key("log of ben"), deviceOf("ann")), undefined, "of this mesh")
  t.equal(await provenRole(good.answer({ operations: good.answer().operations.slice(1) }), deviceOf("ben"), key("log of ben"), deviceOf("ann")), undefined, "with nothing left out")
  const forged = good.answer({ operations: good.answer().operations.map((bytes, i, all) => i === all.length - 1 ? bytes.map((byte, at) => at === 20 ? byte ^ 1 : byte) : bytes) })
  t.equal(await provenRole(forged, deviceOf("ben"), key("log of ben"), deviceOf("ann")), undefined, "nothing forged")
  // Mallory came in as a member and would let others in.
  const bad = world()
  bad.admit("ann", "mallory")
  bad.admit("mallory", "ben")
  t.equal(await provenRole(bad.answer(), deviceOf("ben"), key("log of ben"), deviceOf("mallory")), undefined, "a member admits nobody")
})

t.test("candidates wait for a person: at most four, not longer than their time, and the one that comes again has new words", async (t) => {
  let ms = 0
  const room = makeCandidates(() => ms, 60)
  const candidate = (name: string) => ({ device: deviceOf(name), invite: inviteKey(invite), name, role: "admin" as const, words: `words of ${name} at ${ms}` })
  const first = room.wait(candidate("ben"))
  ms = 1
  const again = room.wait(candidate("ben"))
  t.equal(await first?.decided, "late", "the lost one is forgotten")
  t.same(room.list().map(({ words }) => words), ["words of ben at 1"])
  const [waiting] = room.list()
  if (waiting === undefined) throw new Error("nobody waits")
  t.notOk(room.decide({ ...waiting, words: "words of ben at 0" }, true), "words of before confirm nothing")
  t.ok(room.decide(waiting, true))
  t.equal(await again?.decided, "confirmed")
  const denied = room.wait(candidate("cem"))
  const [cem] = room.list()
  if (cem !== undefined) room.decide(cem, false)
  t.equal(await denied?.decided, "denied")
  const four = ["a", "b", "c", "d"].map((name) => room.wait(candidate(name)))
  t.equal(room.wait(candidate("e")), undefined)
  four[0]?.forget()
  t.ok(room.wait(candidate("e")) !== undefined, "who went away takes no place")
  t.same(await Promise.all(four.map((each) => each?.decided)), ["late", "late", "late", "late"], "their time is over")
})
