/** Every limit of the documents side in one place. The first group decides verdicts: changing one changes state, so it needs a new event version. */

/** Bytes of one change as it stands in a log, and after inflating. */
export const changeBytesMax = 256 * 1024
export const changeInflatedBytesMax = 1024 * 1024
/** Operations of one change; each character of text is one. */
export const changeOperationsMax = 10_000
/** References to overwritten operations in one change. */
export const changePredecessorsMax = 65_536
export const changeDepsMax = 4_096
export const changeActorsMax = 4_096
export const changeMessageBytesMax = 1_024
/** Containers inside containers; the root is 0. */
export const objectDepthMax = 32
export const keyCharsMax = 256
/** Distinct keys of one map that a change may see or make, deleted ones included. */
export const mapKeysMax = 4_096
/** Highest operation counter; Automerge breaks near 2^32. */
export const operationCounterMax = 2 ** 31 - 1

/** Blocks beyond the cut-off of a log in which a change may still count because somebody builds on it. */
export const beyondCutBlocksMax = 4_096
/** Changes, and bytes of changes, of one log in one document that are held beyond its cut-off; later ones can never count. */
export const heldChangesMax = 4_096
export const heldBytesMax = 4 * 1024 * 1024

/** Changes, and bytes of changes, of one document that wait for others; beyond it the document stalls until a reload. */
export const waitingChangesMax = 10_000
export const waitingBytesMax = 16 * 1024 * 1024

/** Values shown of one conflict, the winner among them. */
export const conflictValuesMax = 64

/** Steps back in search of a valid state. */
export const liveStepsMax = 1_000
/** UTF-16 units of text read on that search; it ends at the step that goes beyond. */
export const liveTextUnitsMax = 16 * 1024 * 1024

/** Loaded documents in the worker, and the bytes of their changes. */
export const loadedDocumentsMax = 512
export const loadedBytesMax = 128 * 1024 * 1024

/** What one request to the worker may carry. */
export const pieceChangesMax = 4_096
export const pieceBytesMax = 4 * 1024 * 1024
export const pieceDocumentsMax = 256

/** Deadline of a request, milliseconds: a base, plus what honest work of that size takes ten times over. */
export const deadlineBaseMs = 2_000
export const deadlinePerChangeMs = 0.5
export const deadlinePerKibMs = 1

/** JSON text of one register, bytes in UTF-8, and UTF-16 units of a page's text. */
export const registerBytesMax = 64 * 1024
export const textUnitsMax = 1024 * 1024
export const editsMax = 1_000
