/** The keys that open frames. One epoch per mesh for now; rotation adds numbers, nothing here changes meaning. */
export interface Keyring {
  /** The epoch that new frames are sealed under. */
  readonly current: number
  /** 32 bytes; undefined when this node was never given that epoch's key. */
  key(epoch: number): Uint8Array | undefined
}

export const singleKeyring = (meshKey: Uint8Array): Keyring => ({
  current: 0,
  key: (epoch) => epoch === 0 ? meshKey : undefined
})
