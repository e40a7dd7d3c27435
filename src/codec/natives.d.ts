/** The slice of sodium-native that we use; it ships no types. Loaded by the type checker only. */
declare module "sodium-native" {
  const sodium: {
    randombytes_buf(out: Buffer): void
    crypto_generichash(out: Buffer, input: Buffer, key?: Buffer): void
    crypto_generichash_batch(out: Buffer, inputs: ReadonlyArray<Buffer>, key?: Buffer): void
    crypto_sign_seed_keypair(publicKey: Buffer, secretKey: Buffer, seed: Buffer): void
    crypto_sign_detached(signature: Buffer, message: Buffer, secretKey: Buffer): void
    crypto_sign_verify_detached(signature: Buffer, message: Buffer, publicKey: Buffer): boolean
    crypto_aead_xchacha20poly1305_ietf_encrypt(
      out: Buffer, message: Buffer, ad: Buffer | null, nsec: null, nonce: Buffer, key: Buffer
    ): number
    crypto_aead_xchacha20poly1305_ietf_decrypt(
      out: Buffer, nsec: null, cipher: Buffer, ad: Buffer | null, nonce: Buffer, key: Buffer
    ): number
  }
  export default sodium
}
