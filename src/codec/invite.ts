/**
 * An invite as it is handed from person to person: who knows its secret may ask to be admitted, once or as often as it was issued for.
 *
 * The secret is 16 bytes; the invite's key pair follows from them, and the public key is its name in the mesh's operations. *Words* are
 * the secret alone, twelve of them, to be dictated: which mesh it is, the candidate is told when it meets somebody of it, together with
 * what the invite's key signed of mesh and issuer (`certifyInvite`), so that no stranger and no mere member can name another. *Text*
 * holds the same secret and all that is known beforehand. A *QR code* is the text in capitals.
 *
 * Text: `kos-invite:` and base32 (RFC 4648, lower case, no padding) of `length u16 | CBOR | check 4`, where the check is the first
 * bytes of BLAKE2b over the CBOR. Reading takes upper case, spaces, line breaks and hyphens, as copying leaves them, and says what
 * is wrong. The alphabet has no 0, 1, 8 or 9, so no digit is taken for a letter.
 */
import { Result } from "effect"
import { equalBytes, fromHex, toHex } from "./bytes.ts"
import { decodeCbor, encodeCbor } from "./cbor.ts"
import { stampMsMax } from "./clock.ts"
import { hashParts } from "./hash.ts"
import { Malformed } from "./malformed.ts"
import { admissionHash, isMeshName, isRole, type Role } from "./operation.ts"
import { type KeyPair, keyPairFromSeed, sign, verify } from "./signature.ts"
import { entropyWords, looksLikeWords, wordsEntropy } from "./words.ts"

export const inviteVersion = 2
/** The secret part, bytes: 128 bits, as nobody can try them by guessing. */
export const inviteSeedBytes = 16
export const inviteWordsCount = 12
export const invitePrefix = "kos-invite:"
/** Text of an invite at most, characters; a typical one has 230. */
export const inviteTextLengthMax = 2_000
/** Hints of one kind at most, and characters in one. */
export const inviteHintsMax = 8
export const inviteHintLengthMax = 128

export interface Invite {
  readonly mesh: string
  readonly meshName: string
  /** `inviteSeedBytes`; the invite's key pair is made from it. */
  readonly seed: Uint8Array
  /** Device key of who made it. */
  readonly issuer: string
  readonly role: Role
  /** By the issuer's clock. */
  readonly expiresMs: number
  /** DHT bootstrap nodes of the mesh, `host:port`; empty means the public ones. */
  readonly bootstrap: ReadonlyArray<string>
  /** Where the issuer listened on the LAN, `host:port`. */
  readonly lan: ReadonlyArray<string>
}

const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
const checkBytes = 4
const hintPattern = /^[^\s\p{C}]+:[0-9]{1,5}$/u

/** What a candidate has in hand: the secret, and with a text all the rest. */
export interface HeldInvite {
  readonly seed: Uint8Array
  readonly told: Invite | undefined
}

export const inviteKeyPair = ({ seed }: { readonly seed: Uint8Array }): KeyPair => keyPairFromSeed(hashParts("kos/invite-seed/1", seed))

/** Public key of the invite: its name in the mesh's operations. */
export const inviteKey = (invite: { readonly seed: Uint8Array }): string => toHex(inviteKeyPair(invite).publicKey)

/** The candidate's proof that it holds the invite, for this mesh, this device and this log. */
export const proveInvite = (invite: { readonly mesh: string; readonly seed: Uint8Array }, device: string, log: string): Uint8Array =>
  sign(admissionHash(invite.mesh, inviteKey(invite), device, log), inviteKeyPair(invite))

/** Made once, when the invite is: its key says which mesh and whose it is. Whoever redeems shows it, the secret is not needed for that. */
export const certifyInvite = (invite: { readonly mesh: string; readonly issuer: string; readonly seed: Uint8Array }): Uint8Array =>
  sign(certificateHash(invite.mesh, invite.issuer), inviteKeyPair(invite))

/** Did the key of this invite say so? */
export const isCertified = (invite: string, mesh: string, issuer: string, certificate: Uint8Array): boolean =>
  certificate.byteLength === 64 && verify(certificateHash(mesh, issuer), certificate, fromHex(invite))

const certificateHash = (mesh: string, issuer: string): Uint8Array => hashParts("kos/invite-mesh/1", fromHex(mesh), fromHex(issuer))

/** Twelve words, for dictating. */
export const inviteWords = (invite: { readonly seed: Uint8Array }): string => entropyWords(invite.seed).join(" ")

/** What a QR code holds: capitals take a third less room in it. */
export const inviteQrText = (invite: Invite): string => inviteText(invite).toUpperCase()

/** Reads what a person pasted, typed or scanned: text or words. `why` is what to tell the person. */
export const parseHeldInvite = (text: string): Result.Result<HeldInvite, Malformed> => {
  if (text.length > inviteTextLengthMax) return bad(`it is longer than ${inviteTextLengthMax} characters`)
  if (/^\s*kos\s*-?\s*i/i.test(text) || !looksLikeWords(text)) return Result.map(parseInvite(text), (told) => ({ seed: told.seed, told }))
  const seed = wordsEntropy(text, inviteWordsCount)
  return Result.isFailure(seed) ? bad(seed.failure) : Result.succeed({ seed: seed.success, told: undefined })
}

export const inviteText = (invite: Invite): string => {
  const body = encodeCbor([
    inviteVersion, fromHex(invite.mesh), invite.meshName, invite.seed, fromHex(invite.issuer), invite.role, invite.expiresMs,
    [...invite.bootstrap], [...invite.lan]
  ])
  return `${invitePrefix}${base32(Buffer.concat([Buffer.of(body.byteLength >> 8, body.byteLength & 255), body, check(body)]))}`
}

/** Reads the text of an invite. Never throws; `why` is what to tell the person. */
export const parseInvite = (text: string): Result.Result<Invite, Malformed> => {
  if (text.length > inviteTextLengthMax) return bad(`it is longer than ${inviteTextLengthMax} characters`)
  const squeezed = text.replaceAll(/[\s\u200b\u00ad-]+/g, "").toLowerCase()
  const prefix = invitePrefix.replaceAll("-", "")
  if (squeezed === "") return bad("it is empty")
  if (!squeezed.startsWith(prefix)) {
    return bad(prefix.startsWith(squeezed) ? "the invite is cut off" : `an invite begins with ${invitePrefix}`)
  }
  const letters = squeezed.slice(prefix.length)
  const strange = [...letters].find((letter) => !alphabet.includes(letter))
  if (strange !== undefined) return bad(`the character ${JSON.stringify(strange)} does not occur in an invite`)
  const bytes = fromBase32(letters)
  const size = ((bytes[0] ?? 0) << 8) | (bytes[1] ?? 0)
  const whole = 2 + size + checkBytes
  if (bytes.byteLength < 2 || bytes.byteLength < whole) return bad("the invite is cut off")
  if (letters.length !== lettersFor(whole)) return bad("something was added at the end of the invite")
  const body = bytes.subarray(2, 2 + size)
  const right = equalBytes(check(body), bytes.subarray(2 + size, whole)) && base32(bytes.subarray(0, whole)) === letters
  return right ? fromBody(body) : bad("wrong checksum: a character was changed on the way")
}

const fromBody = (body: Uint8Array): Result.Result<Invite, Malformed> => {
  const wire = decodeCbor("invite", body)
  if (Result.isFailure(wire)) return Result.fail(wire.failure)
  if (!Array.isArray(wire.success)) return bad("not an array")
  const [version, mesh, meshName, seed, issuer, role, expiresMs, bootstrap, lan] = wire.success as ReadonlyArray<unknown>
  if (version !== inviteVersion) return bad("it was made by another version of kOS; update the older of the two nodes")
  if (!isBytes(mesh, 32) || !isBytes(seed, inviteSeedBytes) || !isBytes(issuer, 32)) return bad("a key in it has the wrong size")
  if (!isMeshName(meshName)) return bad("the mesh's name in it is not a name")
  if (!isRole(role)) return bad("the role in it is not known")
  if (typeof expiresMs !== "number" || !Number.isSafeInteger(expiresMs) || expiresMs < 0 || expiresMs > stampMsMax) return bad("the expiry in it is not a time")
  const known = hintsOf(bootstrap)
  const near = hintsOf(lan)
  if (known === undefined || near === undefined) return bad("an address in it is not host:port")
  return Result.succeed({
    mesh: toHex(mesh), meshName, seed: new Uint8Array(seed), issuer: toHex(issuer), role, expiresMs, bootstrap: known, lan: near
  })
}

const hintsOf = (value: unknown): ReadonlyArray<string> | undefined => {
  if (!Array.isArray(value) || value.length > inviteHintsMax) return undefined
  const out: Array<string> = []
  for (const hint of value as ReadonlyArray<unknown>) {
    if (typeof hint !== "string" || hint.length > inviteHintLengthMax || !hintPattern.test(hint)) return undefined
    out.push(hint)
  }
  return out
}

const isBytes = (value: unknown, size: number): value is Uint8Array => value instanceof Uint8Array && value.byteLength === size

const check = (body: Uint8Array): Uint8Array => hashParts("kos/invite/1", body).subarray(0, checkBytes)

const lettersFor = (bytes: number): number => Math.ceil((bytes * 8) / 5)

const base32 = (bytes: Uint8Array): string => {
  let out = ""
  let held = 0
  let bits = 0
  for (const byte of bytes) {
    held = ((held << 8) | byte) & 0xfff
    bits += 8
    while (bits >= 5) {
      bits -= 5
      out += alphabet[(held >>> bits) & 31]
    }
  }
  return bits > 0 ? out + alphabet[(held << (5 - bits)) & 31] : out
}

const fromBase32 = (letters: string): Uint8Array => {
  const out = new Uint8Array(Math.floor((letters.length * 5) / 8))
  let held = 0
  let bits = 0
  let at = 0
  for (const letter of letters) {
    held = ((held << 5) | alphabet.indexOf(letter)) & 0xfff
    bits += 5
    if (bits >= 8) {
      bits -= 8
      out[at++] = (held >>> bits) & 255
    }
  }
  return out
}

const bad = (why: string) => Result.fail(new Malformed({ what: "invite", why }))
