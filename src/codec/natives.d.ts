/** The slice of sodium-native that we use; it ships no types. Loaded by the type checker only. */
declare module "sodium-native" {
  const sodium: {
    randombytes_buf(out: Buffer): void
    crypto_generichash(out: Buffer, input: Buffer, key?: Buffer): void
    crypto_generichash_batch(out: Buffer, inputs: ReadonlyArray<Buffer>, key?: Buffer): void
    crypto_sign_seed_keypair(publicKey: Buffer, secretKey: Buffer, seed: Buffer): void
    crypto_sign_detached(signature: Buffer, message: Buffer, secretKey: Buffer): void
    crypto_sign_verify_detached(signature: Buffer, message: Buffer, publicKey: Buffer): boolean
    crypto_sign_ed25519_pk_to_curve25519(out: Buffer, publicKey: Buffer): void
    crypto_sign_ed25519_sk_to_curve25519(out: Buffer, secretKey: Buffer): void
    crypto_box_seal(out: Buffer, message: Buffer, publicKey: Buffer): void
    crypto_box_seal_open(out: Buffer, sealed: Buffer, publicKey: Buffer, secretKey: Buffer): boolean
    crypto_scalarmult(out: Buffer, secretKey: Buffer, publicKey: Buffer): void
    crypto_pwhash_async(out: Buffer, password: Buffer, salt: Buffer, opslimit: number, memlimit: number, algorithm: number): Promise<void>
    crypto_pwhash_ALG_ARGON2ID13: number
    crypto_aead_xchacha20poly1305_ietf_encrypt(
      out: Buffer, message: Buffer, ad: Buffer | null, nsec: null, nonce: Buffer, key: Buffer
    ): number
    crypto_aead_xchacha20poly1305_ietf_decrypt(
      out: Buffer, nsec: null, cipher: Buffer, ad: Buffer | null, nonce: Buffer, key: Buffer
    ): number
  }
  export default sodium
}
