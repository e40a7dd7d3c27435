/**
 * Keys of this floor as words (`codec/words.ts`).
 *
 * The *recovery secret* of a mesh is 32 random bytes, written as 24 words of which the last carries a checksum. Its Ed25519 key pair is
 * derived from the bytes and the mesh's id, so that the words of one mesh say nothing in another.
 */
import { Result } from "effect"
import { fromHex } from "../codec/bytes.ts"
import { deriveKey, hashParts } from "../codec/hash.ts"
import { type KeyPair, keyPairFromSeed } from "../codec/signature.ts"
import { checkWords, entropyWords, wordsEntropy } from "../codec/words.ts"

export const recoveryEntropyBytes = 32
export const recoveryWordsCount = 24

/** Six words (66 bits) that two people compare to know that they mean one key. */
export const fingerprintOf = (key: string): string => checkWords(hashParts("kos/fingerprint/1", fromHex(key)))

export const recoveryWords = (entropy: Uint8Array): string => entropyWords(entropy).join(" ")

/** Reads the words as people type them. The reason tells the place of a wrong word and never the word: it ends up in events. */
export const readRecoveryWords = (text: string): Result.Result<Uint8Array, string> =>
  Result.mapError(wordsEntropy(text, recoveryWordsCount), (why) => {
    const place = /^word (\d+),/.exec(why)?.[1]
    return place === undefined ? why : `word ${place} is none of the list`
  })

/** The key pair that a mesh's recovery secret stands for. */
export const recoveryKeyPair = (mesh: string, entropy: Uint8Array): KeyPair => {
  const seed = deriveKey(entropy, "kos/recovery-key/1", fromHex(mesh))
  const pair = keyPairFromSeed(seed)
  seed.fill(0)
  return pair
}
