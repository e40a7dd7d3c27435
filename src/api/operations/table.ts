/** Every operation there is, in the order in which help shows them. */
import type { Handler, Operation } from "../operation.ts"
import { agentApply, agentList, agentRemove, agentShow, agentStart, agentStop } from "./agent.ts"
import { approvalAllow, approvalDeny, approvalList, approvalShow } from "./approval.ts"
import {
  configApply, configConflicts, configDiff, configEdit, configExplain, configGet, configHistory, configResolve, configRevert, configSet, configShow,
  configUnset, configValidate
} from "./config.ts"
import { connect, nodePing, serviceList } from "./connect.ts"
import { eventAt, eventDiff, eventExport, eventList, eventShow, eventTypesList, eventVerify } from "./event.ts"
import { doctor, events, init, logs, status, wait } from "./everyday.ts"
import { meshFederate } from "./federation.ts"
import { inviteConfirm, inviteCreate, inviteList, inviteRevoke, join, leave } from "./invite.ts"
import { keyBackup, keyRecover, keyRestore, keyRotate, keySeal, keyShow, keyUnseal, keyWords } from "./key.ts"
import { completion, daemonRun, dhtRun, help } from "./local.ts"
import { memoryAdd, memoryEdit, memoryForget, memoryHistory, memoryList, memorySearch, memoryShow } from "./memory.ts"
import { meshCreate, meshList, meshMode, meshShow, meshUse, nodeList, nodeName, nodeShow } from "./mesh.ts"
import { meshThreshold, nodeClear, nodeRevoke, nodeRole } from "./node.ts"
import {
  releaseDelegate, releaseInit, releaseKey, releaseList, releasePack, releasePublish, releaseRotate, releaseShow, releaseSign, releaseWithdraw, releaseYank
} from "./release.ts"
import { syncExport, syncImport, syncNow, syncPause, syncResume, syncStatus } from "./sync.ts"
import { seedAdd, seedLimit, seedList, seedRemove } from "./seed.ts"
import {
  updateAdvise, updateApply, updateBoot, updateChannel, updateCheck, updateExport, updateFetch, updateHistory, updateImport, updateList, updatePause, updatePin, updatePlan,
  updateResume, updateRollback, updateShow, updateSlots, updateStop, updateTry
} from "./update.ts"
import { vaultGet, vaultList, vaultRemove, vaultRotate, vaultSet } from "./vault.ts"

const table = [
  status, init, doctor, events, logs, wait, join, leave, connect,
  meshCreate, meshList, meshUse, meshShow, meshMode, meshFederate, inviteCreate, inviteList, inviteConfirm, inviteRevoke, nodeList, nodeShow, nodeName, nodePing, serviceList,
  nodeRole, nodeRevoke, nodeClear, meshThreshold,
  keyShow, keySeal, keyUnseal, keyBackup, keyRestore, keyWords, keyRecover, keyRotate,
  syncStatus, syncNow, syncPause, syncResume, syncExport, syncImport,
  eventList, eventShow, eventDiff, eventAt, eventVerify, eventExport, eventTypesList,
  configShow, configGet, configSet, configUnset, configEdit, configValidate, configDiff, configApply, configHistory, configRevert, configConflicts,
  configResolve, configExplain,
  approvalList, approvalShow, approvalAllow, approvalDeny,
  agentList, agentShow, agentApply, agentRemove, agentStart, agentStop,
  memoryList, memoryShow, memoryAdd, memoryEdit, memoryForget, memoryHistory, memorySearch,
  vaultSet, vaultGet, vaultList, vaultRotate, vaultRemove,
  updateCheck, updateList, updateShow, updatePlan, updateFetch, updateTry, updateApply, updateBoot, updateRollback, updateHistory, updateSlots, updateChannel, updateAdvise,
  updateStop, updatePin, updatePause, updateResume, updateExport, updateImport, seedList, seedAdd, seedRemove, seedLimit,
  releaseKey, releaseInit, releasePack, releaseSign, releasePublish, releaseYank, releaseRotate, releaseDelegate, releaseWithdraw, releaseList, releaseShow,
  daemonRun, dhtRun, completion, help
] as const

type Entry = (typeof table)[number]

export type OperationName = Entry["name"]

/** What the daemon must answer: one handler for each operation that is not the CLI's own. A missing one is a type error. */
export type Handlers = { readonly [Op in Entry as Op["place"] extends "local" ? never : Op["name"]]: Handler<Op> }

/** Types of one operation by its name: `InputOf<"config.get">`. */
type Named<Name extends OperationName> = Extract<Entry, { readonly name: Name }>
export type InputOf<Name extends OperationName> = Named<Name>["input"]["Type"]
export type OutputOf<Name extends OperationName> = Named<Name>["output"]["Type"]

export const operations: ReadonlyArray<Operation> = table

export const operationByName: ReadonlyMap<string, Operation> = new Map(table.map((op) => [op.name, op]))
