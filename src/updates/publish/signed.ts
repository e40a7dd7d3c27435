/**
 * The signed part of a metadata file, and keys that sign it.
 *
 * What gets signed is the canonical JSON of the signed part, as TUF 1.0 says (section 4.2). Those bytes are what a proposal carries: whoever signs
 * signs exactly what was proposed, and nobody has to make the bytes anew. Canonical JSON escapes quotes and backslashes only, so a text with a line end is no
 * JSON; `parseSigned` escapes what stands raw before it parses, and then demands that the canonical form of what it read is what it was given.
 */
import { createHash } from "node:crypto"
import { Key, Metadata, MetadataKind, Root, Signature, type Snapshot, Targets, type Timestamp } from "@tufjs/models"
import { Result } from "effect"
import { fromHex, isHex, toHex, utf8 } from "../../codec/bytes.ts"
import { Malformed } from "../../codec/malformed.ts"
import { type KeyPair, sign, verify } from "../../codec/signature.ts"

/** The signed part of a proposal at most, bytes: what an event holds. */
export const signedBytesMax = 49_152
/** Versions at most. */
export const versionMax = 2_147_483_647

export type Signed = Root | Targets | Snapshot | Timestamp
export type JsonObject = Parameters<typeof Root.fromJSON>[0]

/** A signature by a key that is known by its id. */
export interface KeySignature {
  /** Key id as TUF has it, 64 hex digits. */
  readonly keyId: string
  /** Ed25519, 128 hex digits. */
  readonly signature: string
}

export const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex")

/** The bytes that are signed. */
export const canonicalBytes = (signed: Signed): Uint8Array => {
  let bytes: Uint8Array = new Uint8Array()
  // The library makes them; a signer that signs nothing gets to see them.
  new Metadata(signed).sign((data) => {
    bytes = Uint8Array.from(data)
    return new Signature({ keyID: "", sig: "" })
  })
  return bytes
}

/** An Ed25519 public key, 64 hex digits, as a key of TUF; its id is the SHA-256 of its canonical JSON. */
export const tufKey = (publicHex: string): Key => {
  const id = sha256(utf8(`{"keytype":"ed25519","keyval":{"public":"${publicHex}"},"scheme":"ed25519"}`))
  return new Key({ keyID: id, keyType: "ed25519", scheme: "ed25519", keyVal: { public: publicHex } })
}

export const keyIdOf = (publicHex: string): string => tufKey(publicHex).keyID

export const signWith = (bytes: Uint8Array, keyPair: KeyPair): KeySignature =>
  ({ keyId: keyIdOf(toHex(keyPair.publicKey)), signature: toHex(sign(bytes, keyPair)) })

/** False when the id is not that of the key's own bytes: one key under two ids would count twice. */
export const signs = (bytes: Uint8Array, { keyId, signature }: KeySignature, publicHex: string): boolean =>
  isHex(publicHex, 32) && isHex(signature, 64) && keyIdOf(publicHex) === keyId && verify(bytes, fromHex(signature), fromHex(publicHex))

/** Reads the signed part of root, targets or a delegated role. */
export const parseSigned = (role: string, bytes: Uint8Array): Result.Result<Root | Targets, Malformed> => {
  const fail = (why: string) => Result.fail(new Malformed({ what: `proposal for ${role}`, why }))
  if (bytes.byteLength > signedBytesMax) return fail(`it has ${bytes.byteLength} bytes, more than ${signedBytesMax}`)
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes)
    const json: unknown = JSON.parse(text.replace(/[\u0000-\u001f]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`))
    const kind = role === "root" ? MetadataKind.Root : MetadataKind.Targets
    if (!isJsonObject(json) || json["_type"] !== kind) return fail(`it is no ${kind} metadata`)
    const signed = kind === MetadataKind.Root ? Root.fromJSON(json) : Targets.fromJSON(json)
    if (!Number.isSafeInteger(signed.version) || signed.version < 1 || signed.version > versionMax) return fail("its version is no number from 1 on")
    return sha256(canonicalBytes(signed)) === sha256(bytes) ? Result.succeed(signed) : fail("it is not in canonical form")
  } catch (cause) {
    return fail(cause instanceof Error ? cause.message.slice(0, 200) : "it cannot be read")
  }
}

/** For what `JSON.parse` gave. */
export const isJsonObject = (value: unknown): value is JsonObject => typeof value === "object" && value !== null && !Array.isArray(value)
