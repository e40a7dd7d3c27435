/**
 * Secrets and hashes as words that people dictate: the English list of BIP39, of which four letters name one word.
 *
 * Reading forgives capitals, numbering, commas, line breaks and words cut off after four letters; it forgives no other word. What is wrong
 * is said in one sentence, and never more of the secret than the word in question.
 */
import { Result } from "effect"
import { entropyToMnemonic, mnemonicToEntropy } from "@scure/bip39"
import { wordlist } from "@scure/bip39/wordlists/english.js"
import { toHex } from "./bytes.ts"
import { suggest } from "./suggest.ts"

/** Characters of typed words at most. */
export const wordsLengthMax = 1_024
/** Letters that are enough of any word of the list. */
export const wordPrefixLength = 4
/** Words of a check string: 66 bits. */
export const checkWordsCount = 6

/** 16 bytes become 12 words, 32 become 24; the last word holds a checksum. */
export const entropyWords = (entropy: Uint8Array): ReadonlyArray<string> => entropyToMnemonic(new Uint8Array(entropy), wordlist).split(" ")

/** The bytes that so many words stand for; a failure is the sentence for the person who typed them. */
export const wordsEntropy = (text: string, count: number): Result.Result<Uint8Array, string> => {
  if (text.length > wordsLengthMax) return Result.fail(`they are longer than ${wordsLengthMax} characters`)
  const typed = splitWords(text)
  const words: Array<string> = []
  for (const [index, word] of typed.entries()) {
    const found = wholeWord(word)
    if (found === undefined) {
      const [near] = suggest(word, wordlist, 1)
      return Result.fail(`word ${index + 1}, ${JSON.stringify(word.slice(0, 24))}, is none of the list${near === undefined ? "" : `; did you mean ${near}?`}`)
    }
    words.push(found)
  }
  if (words.length !== count) return Result.fail(`there are ${count} words, and these are ${words.length}`)
  try {
    return Result.succeed(mnemonicToEntropy(words.join(" "), wordlist))
  } catch {
    return Result.fail("they do not fit together: one is another word than was said, or two changed places")
  }
}

/** Are these words, rather than one text without a gap? */
export const looksLikeWords = (text: string): boolean => splitWords(text).length > 1 && /^[\p{L}\p{N}\s.,;:)\-]*$/u.test(text)

/** Six words from a hash, for two people to compare. */
export const checkWords = (hash: Uint8Array): string => {
  let bits = BigInt(`0x${toHex(hash.subarray(0, 9))}`) >> 6n
  const words: Array<string> = []
  for (let count = 0; count < checkWordsCount; count += 1) {
    words.unshift(wordlist[Number(bits & 2047n)] ?? "")
    bits >>= 11n
  }
  return words.join(" ")
}

const splitWords = (text: string): ReadonlyArray<string> => text.normalize("NFKD").toLowerCase().split(/[^\p{L}]+/u).filter((word) => word !== "")

/** The word itself, or the only one that begins so, from four letters on. */
const wholeWord = (typed: string): string | undefined =>
  wordlist.includes(typed) ? typed : typed.length < wordPrefixLength ? undefined : wordlist.find((word) => word.startsWith(typed))
