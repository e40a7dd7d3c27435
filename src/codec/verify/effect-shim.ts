/**
 * The little of Effect that the codec uses, for the one built file: a result, and an error with fields. The build puts it in the
 * place of "effect", so that an auditor reads a few hundred lines instead of a framework.
 */
type Outcome<A, E> = { readonly _tag: "Success"; readonly success: A } | { readonly _tag: "Failure"; readonly failure: E }

export const Result = {
  succeed: <A>(success: A): Outcome<A, never> => ({ _tag: "Success", success }),
  fail: <E>(failure: E): Outcome<never, E> => ({ _tag: "Failure", failure }),
  isSuccess: <A, E>(result: Outcome<A, E>): boolean => result._tag === "Success",
  isFailure: <A, E>(result: Outcome<A, E>): boolean => result._tag === "Failure"
}

const TaggedError = () => (tag: string) => class extends Error {
  readonly _tag = tag
  constructor(fields: Readonly<Record<string, unknown>>) {
    super()
    Object.assign(this, fields)
  }
}

export const Schema = { TaggedError, String: undefined }
