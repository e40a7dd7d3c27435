/**
 * The meshes of one home. It owns the list of runtimes (`mesh-runtime.ts`), which of them is the default, and every change of that list.
 *
 * **On the disk.** `current` names the default mesh, `meshes` all of them. Keys and introduction of a mesh are on the disk before either names it, and
 * a mesh that is left stays there without being named. Whatever is cut short between the two files leaves at most a mesh of one beside the others.
 *
 * **Invariants.** At most `openMeshesMax`. No device key is in two open meshes at a time: the first mesh has the home's key, each further one
 * a key of its own. A mesh that cannot be opened keeps its place and its reason, and the others run. A call that names no mesh goes to the default one or
 * is refused; it never goes to another because the default one is broken.
 *
 * **Joining.** A mesh of one gives its place: same device key, its pages are taken along. Else the new mesh is added beside the others, under a fresh
 * device key; nothing of the present meshes takes part in the pairing, so that nobody there or here can tell that they share a device.
 * A home that comes back to a mesh that it left does so under its key of then, unless that is in use elsewhere by now; then what it held of that mesh under
 * the old key is put aside under `set-aside/`, since it is another device.
 */
import { Effect, Result, Scope, Semaphore } from "effect"
import { existsSync } from "node:fs"
import type { Joined, MeshDoors, MeshEntry, MeshView } from "../api/node.ts"
import type { Handlers } from "../api/operations/table.ts"
import { toHex } from "../codec/bytes.ts"
import { keyPairFromSeed, randomBytes } from "../codec/signature.ts"
import { suggest } from "../codec/suggest.ts"
import { uuidv7 } from "../codec/uuid.ts"
import { decideLeave } from "../commands/decide-membership.ts"
import { membershipLock, operationEvents } from "../commands/membership-events.ts"
import { Refusal } from "../commands/refusal.ts"
import { keyBytes, openMeshesMax } from "../vault/home.ts"
import type { Vault } from "../vault/vault.ts"
import { asFederation } from "../projections/federation.ts"
import { startAutopeer } from "./autopeer.ts"
import { type Bridges, type FederationParts, startBridges } from "./federation.ts"
import { createMesh } from "./first-run.ts"
import { carry, type Entering, enter, inPlaceOf, pagesOf, putAside } from "./joining.ts"
import type { MeshNode } from "./mesh-node.ts"
import { asRefusal, type HomeParts, openRuntime, promise, type Runtime } from "./mesh-runtime.ts"
import { nameOnDisk } from "./init.ts"

export interface Meshes {
  /** Undefined when the default mesh could not be opened. */
  readonly standard: () => Runtime | undefined
  /** What answers a call; `mesh` is what the caller named, or undefined. */
  readonly handlersFor: (mesh: string | undefined, operation: string) => Result.Result<Handlers, Refusal>
  readonly runtimes: () => ReadonlyArray<Runtime>
  readonly entries: () => ReadonlyArray<MeshEntry>
}

/** What can be asked although the default mesh is broken: it is about the home. */
const aboutHome = new Set(["mesh.list", "mesh.use", "logs"])

interface Place {
  readonly id: string
  readonly name: string
  readonly runtime: Runtime | undefined
  readonly fault: string | undefined
}

/** Opens them all; fails only when none can be opened. */
export const openMeshes = (parts: Omit<HomeParts, "doors" | "portTaken" | "onSettings" | "onFold">, onSettings: (standard: Runtime) => void): Effect.Effect<Meshes, Error, Scope.Scope> => Effect.gen(function*() {
  const { vault, notice, now } = parts
  const outer = yield* Effect.scope
  // Each of them says farewell to its peers; that takes no longer with several.
  const all = yield* Scope.fork(outer, "parallel")
  const turn = yield* Semaphore.make(1)
  let places: ReadonlyArray<Place> = []
  let standard = ""
  let bridges: Bridges | undefined

  const open = (): ReadonlyArray<Runtime> => places.flatMap(({ runtime }) => runtime ?? [])
  const idOf = (place: Place): string => place.runtime?.node().mesh ?? place.id
  const nameOf = (place: Place): string => place.runtime?.node().members.view().name ?? place.name
  const placeOf = (runtime: Runtime): Place | undefined => places.find((place) => place.runtime === runtime)
  const standardPlace = (): Place | undefined => places.find((place) => idOf(place) === standard)
  const entryOf = (place: Place): MeshEntry => ({ id: idOf(place), name: nameOf(place), isDefault: idOf(place) === standard, mesh: place.runtime?.node(), fault: place.fault })
  const entries = () => places.map(entryOf).toSorted((a, b) => Number(b.isDefault) - Number(a.isDefault))

  const home: HomeParts = {
    ...parts,
    onSettings: () => {
      const runtime = standardPlace()?.runtime
      if (runtime !== undefined) onSettings(runtime)
    },
    onFold: () => {
      bridges?.wake()
      parts.updates.wake()
    },
    // The first that opened has it; the others take any free port.
    portTaken: (runtime, port) => port !== 0 && open().some((other) => other !== runtime && other.node().swarm.carriers().some(({ name, detail }) => name === "lan" && detail.includes(`:${port}`))),
    doors: (runtime) => doorsOf(runtime)
  }

  const start = (id: string) => Effect.gen(function*() {
    const scope = yield* Scope.fork(all)
    return yield* openRuntime(home, id).pipe(Effect.provideService(Scope.Scope, scope))
  })

  const write = (): Effect.Effect<void, Error> => promise(async () => {
    await vault.setCurrentMesh(standard)
    await vault.setMeshes(entries().map(({ id }) => id))
  })

  const find = (text: string): Result.Result<Place, Refusal> => {
    const named = places.filter((place) => nameOf(place).toLowerCase() === text.toLowerCase())
    const found = named.length > 0 ? named : /^[0-9a-f]{8,64}$/i.test(text) ? places.filter((place) => idOf(place).startsWith(text.toLowerCase())) : []
    const [place] = found
    const list = (of: ReadonlyArray<Place>) => of.map((each) => `${nameOf(each)} (${idOf(each).slice(0, 8)})`).join(", ")
    if (place === undefined) {
      const near = suggest(text, places.map(nameOf))
      return Result.fail(new Refusal({ kind: "not-found", detail: `this node is in no mesh called ${text}${near.length > 0 ? `; did you mean ${near.join(" or ")}?` : `; it is in ${list(places)}`}`, hint: "kos mesh list", path: "--mesh" }))
    }
    return found.length === 1 ? Result.succeed(place) : Result.fail(new Refusal({ kind: "conflict", detail: `${found.length} meshes are called ${text}: ${list(found)}; name one by its id`, hint: "kos mesh list", path: "--mesh" }))
  }

  const broken = (place: Place): Refusal => new Refusal({ kind: "degraded", detail: `${nameOf(place)} could not be opened: ${place.fault ?? "unknown reason"}`, hint: "kos mesh list" })

  /** Puts a further runtime into the list. */
  const add = (id: string): Effect.Effect<Runtime, Refusal> => Effect.gen(function*() {
    const runtime = yield* start(id)
    places = [...places.filter((place) => idOf(place) !== id), { id, name: "", runtime, fault: undefined }]
    yield* write()
    return runtime
  }).pipe(Effect.mapError(asRefusal), Effect.uninterruptible)

  const roomForOne = Effect.suspend(() => places.length < openMeshesMax ? Effect.void
    : Effect.fail(new Refusal({ kind: "conflict", detail: `this node is in ${places.length} meshes, and ${openMeshesMax} are the most`, hint: "kos leave --mesh NAME" })))

  const doorsOf = (runtime: Runtime): MeshDoors => ({
    meshes: entries,
    join: (invite, options) => join(runtime, invite, options).pipe(Effect.mapError(asRefusal)),
    leave: () => turn.withPermits(1)(leave(runtime)).pipe(Effect.mapError(asRefusal)),
    useMesh: (text) => turn.withPermits(1)(Effect.gen(function*() {
      const place = yield* Effect.fromResult(find(text))
      if (place.runtime === undefined) return yield* broken(place)
      standard = idOf(place)
      yield* write()
      home.onSettings()
      return entryOf(place)
    })).pipe(Effect.mapError(asRefusal)),
    anotherMesh: (name) => create(name, runtime.node().members.nameOf(runtime.node().vault.deviceId)).pipe(Effect.map(({ node }) => node())),
    federate: (wish, call) => bridges?.begin(runtime, wish, call) ?? Effect.fail(new Refusal({ kind: "degraded", detail: "the meshes are being opened" }))
  })

  const create = (name: string, nodeName: string): Effect.Effect<Runtime, Refusal> => turn.withPermits(1)(Effect.gen(function*() {
    yield* roomForOne
    return yield* add(yield* Effect.fromResult(yield* promise(() => createMesh(vault, nodeName, now(), { name, deviceSeed: randomBytes(keyBytes) }))))
  })).pipe(Effect.mapError(asRefusal))

  const join = (runtime: Runtime, invite: string, { timeoutMs, name, onWaiting }: Parameters<MeshDoors["join"]>[1], asFurther = false, turnsAway?: (mesh: string, meshName: string) => string | undefined): Effect.Effect<Joined, Error> => Effect.gen(function*() {
    const here = runtime.node()
    const gives = !asFurther && givesPlace(here)
    if (!gives) yield* roomForOne
    const options = {
      timeoutMs, now, makeCarriers: runtime.carriers,
      isIn: (mesh: string, meshName: string) => entries().find((entry) => entry.id === mesh && (entry.mesh === undefined || isMember(entry.mesh)))?.name ?? turnsAway?.(mesh, meshName),
      entering: gives ? inPlaceOf(here, name) : beside(vault, here, name, () => entries()),
      onWaiting: (check: Parameters<typeof onWaiting>[0]) => {
        runtime.setCheck(check)
        onWaiting(check)
      }
    }
    const entered = yield* enter(here, invite, options).pipe(Effect.ensuring(Effect.sync(() => runtime.setCheck(undefined))))
    const pages = gives ? pagesOf(here) : []
    const joined = yield* turn.withPermits(1)(Effect.gen(function*() {
      if (!gives) return (yield* add(entered.mesh)).node()
      const was = here.mesh
      const node = yield* change(runtime, was, entered.mesh)
      return node
    }))
    const synced = yield* promise(() => joined.swarm.waitSynced(Math.min(timeoutMs, 15_000)))
    yield* promise(() => joined.runner.idle())
    const carried = yield* carry(joined, pages, now)
    const usual = standardPlace()
    return {
      mesh: joined, admittedBy: joined.members.nameOf(entered.admittedBy), role: entered.role, carried, synced,
      beside: joined.mesh === standard || usual === undefined ? undefined : nameOf(usual)
    }
  })

  /** Another mesh in the place of one. The files name it first: what is cut short in between opens the new one. */
  const change = (runtime: Runtime, was: string, id: string): Effect.Effect<MeshNode, Error> => Effect.gen(function*() {
    if (standard === was) standard = id
    yield* promise(async () => {
      await vault.setCurrentMesh(standard)
      await vault.setMeshes(entries().map((entry) => entry.id === was ? id : entry.id))
    })
    return yield* runtime.switchTo(id)
  }).pipe(Effect.uninterruptible)

  /** Leaves a federation that is over: its last owner has nobody to hand it to. */
  const drop = (mesh: string): Effect.Effect<void, Refusal> => turn.withPermits(1)(Effect.suspend(() => {
    const runtime = open().find((each) => each.node().mesh === mesh)
    if (runtime === undefined || places.length === 1) return Effect.void
    return sayLeft(runtime.node()).pipe(Effect.ignore, Effect.andThen(close(runtime)), Effect.mapError(asRefusal))
  }))

  const leave = (runtime: Runtime): Effect.Effect<string | undefined, Error> => Effect.gen(function*() {
    const left = runtime.node()
    const name = left.members.nameOf(left.vault.deviceId)
    if (!isAlone(left)) yield* sayLeft(left)
    if (places.every((place) => place.runtime === runtime || (place.runtime !== undefined && asFederation(place.runtime.node()) !== undefined))) {
      const pages = pagesOf(left)
      const made = yield* Effect.fromResult(yield* promise(() => createMesh(vault, name, now())))
      yield* carry(yield* change(runtime, left.mesh, made), pages, now)
      return undefined
    }
    return yield* close(runtime)
  })

  const sayLeft = (left: MeshNode): Effect.Effect<void, Error> => Effect.gen(function*() {
    yield* left.dispatch.run("leave", { command: uuidv7(now(), randomBytes(10)), actor: "device" }, [membershipLock], Effect.suspend(() =>
      Effect.map(Effect.fromResult(decideLeave(left.situation())), (operations) => ({ summary: "left", events: operationEvents(left.vault, operations) }))))
    // A moment for the peers in touch to hear of it; who is away learns it from them.
    yield* promise(() => left.swarm.waitSynced(2_000))
  })

  /** Takes one out of the list; answers with the name of the default one. */
  const close = (runtime: Runtime): Effect.Effect<string, Error> => Effect.gen(function*() {
    const { mesh } = runtime.node()
    places = places.filter((place) => place.runtime !== runtime)
    // A federation is no place for commands that name no mesh.
    const next = places.find((place) => place.runtime !== undefined && asFederation(place.runtime.node()) === undefined) ?? places[0]
    if (standard === mesh && next !== undefined) standard = idOf(next)
    yield* write()
    yield* runtime.close
    home.onSettings()
    const usual = standardPlace()
    return usual === undefined ? "" : nameOf(usual)
  }).pipe(Effect.uninterruptible)

  const ids = yield* promise(() => vault.meshes())
  standard = ids[0] ?? ""
  const faults: Array<Error> = []
  places = yield* Effect.forEach(ids, (id) => start(id).pipe(
    Effect.map((runtime): Place => ({ id, name: "", runtime, fault: undefined })),
    Effect.catch((error) => Effect.gen(function*() {
      faults.push(error)
      notice("error", `the mesh ${id.slice(0, 8)} could not be opened: ${error.message}`)
      const name = yield* promise(() => nameOnDisk(vault, id)).pipe(Effect.orElseSucceed(() => id.slice(0, 8)))
      return { id, name, runtime: undefined, fault: error.message } satisfies Place
    }))
  ), { concurrency: "unbounded" })
  const [fault] = faults
  if (open().length === 0) return yield* Effect.fail(fault ?? new Error("this home is in no mesh"))
  home.onSettings()
  const federating: FederationParts = {
    now, notice, runtimes: open, create: (_runtime, name, nodeName) => create(name, nodeName), drop,
    join: (runtime, invite, timeoutMs, name, turnsAway) => join(runtime, invite, { timeoutMs, name, onWaiting: () => undefined }, true, turnsAway).pipe(Effect.mapError(asRefusal))
  }
  bridges = yield* startBridges(federating)
  yield* startAutopeer(federating)

  return {
    standard: () => standardPlace()?.runtime,
    runtimes: open,
    entries,
    handlersFor: (mesh, operation) => Result.flatMap(mesh === undefined ? standardOr() : find(mesh), (place) => {
      // A call that came in now would find the tables of a closed node.
      if (place.runtime?.switching() === true) return Result.fail(new Refusal({ kind: "degraded", detail: `${nameOf(place)} is being opened anew; try again in a moment` }))
      if (place.runtime !== undefined) return Result.succeed(place.runtime.handlers)
      const [other] = open()
      return other !== undefined && aboutHome.has(operation) ? Result.succeed(other.handlers) : Result.fail(broken(place))
    })
  }

  function standardOr(): Result.Result<Place, Refusal> {
    const place = standardPlace()
    return place === undefined ? Result.fail(new Refusal({ kind: "degraded", detail: "this home has no default mesh", hint: "kos mesh use NAME" })) : Result.succeed(place)
  }
})

const isMember = (node: MeshView): boolean => node.members.standing(node.vault.deviceId) === "member"

const isAlone = (node: MeshView): boolean => ![...node.members.view().members.values()].some((member) => member.standing === "member" && member.device !== node.vault.deviceId)

/** A node that is alone, or was put out of its mesh, has nothing there that a new mesh would push aside. */
const givesPlace = (node: MeshView): boolean => isAlone(node) || !isMember(node)

/** Comes in as a device of its own. */
const beside = (vault: Vault, node: MeshNode, name: string | undefined, entries: () => ReadonlyArray<MeshEntry>): Entering => {
  let device = ""
  return {
    name: name ?? node.members.nameOf(node.vault.deviceId), inPlaceOf: undefined,
    as: async (mesh) => {
      const known = mesh === undefined || !existsSync(`${vault.meshDirectory(mesh)}/keys/mesh`) ? undefined : await vault.forMesh(mesh)
      const isFree = known !== undefined && !entries().some((entry) => entry.mesh?.vault.deviceId === known.deviceId || (entry.mesh === undefined && known.isHomeDevice))
      const seed = known !== undefined && isFree ? known.deviceSeed() : randomBytes(keyBytes)
      const keyPair = keyPairFromSeed(seed)
      device = toHex(keyPair.publicKey)
      return { keyPair, deviceSeed: seed }
    },
    put: (mesh) => putAside(vault, mesh, device)
  }
}
