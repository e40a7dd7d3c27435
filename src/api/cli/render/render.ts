/** Every operation's answer as lines for people; a missing renderer is a type error. */
import type { OperationName, OutputOf } from "../../operations/table.ts"
import type { View } from "../text.ts"
import * as approval from "./approval.ts"
import * as connect from "./connect.ts"
import * as everyday from "./everyday.ts"
import * as key from "./key.ts"
import * as meeting from "./meeting.ts"
import * as node from "./node.ts"
import type { Lines } from "./shared.ts"
import * as release from "./release.ts"
import * as state from "./state.ts"
import * as update from "./update.ts"
import * as vault from "./vault.ts"

const renderers: { readonly [Name in OperationName]: (value: OutputOf<Name>, view: View) => Lines } = {
  status: everyday.status, init: everyday.init, doctor: everyday.doctor, events: everyday.events, logs: everyday.logs, wait: everyday.wait, join: everyday.join, leave: everyday.leave,
  "mesh.create": meeting.meshCreate, "mesh.list": meeting.meshList, "mesh.use": meeting.meshUse, "mesh.federate": meeting.meshFederate, "mesh.show": meeting.meshShow, "mesh.mode": meeting.meshMode,
  "invite.create": meeting.inviteCreate, "invite.list": meeting.inviteList, "invite.confirm": meeting.inviteConfirm, "invite.revoke": meeting.inviteRevoke,
  "node.list": meeting.nodeList, "node.show": meeting.nodeShow, "node.name": meeting.nodeName,
  "node.role": node.nodeRole, "node.revoke": node.nodeRevoke, "node.clear": node.nodeClear, "mesh.threshold": node.meshThreshold,
  "key.show": key.keyShow, "key.seal": key.keySeal, "key.unseal": key.keyUnseal, "key.backup": key.keyBackup, "key.restore": key.keyRestore, "key.words": key.keyWords,
  "key.recover": key.keyRecover, "key.rotate": key.keyRotate,
  "sync.status": meeting.syncStatus, "sync.now": meeting.syncNow, "sync.pause": meeting.syncPause, "sync.resume": meeting.syncResume,
  "sync.export": meeting.syncExport, "sync.import": meeting.syncImport,
  "event.list": state.eventList, "event.show": state.eventShow, "event.diff": state.eventDiff, "event.at": state.eventAt, "event.verify": state.eventVerify,
  "event.export": state.eventExport,
  "config.show": state.configShow, "config.get": state.configGet, "config.set": state.configSet, "config.unset": state.configUnset, "config.edit": state.configEdit,
  "config.validate": state.configValidate, "config.diff": state.configDiff, "config.apply": state.configApply, "config.history": state.configHistory,
  "config.revert": state.configRevert, "config.conflicts": state.configConflicts, "config.resolve": state.configResolve, "config.explain": state.configExplain,
  "approval.list": approval.approvalList, "approval.show": approval.approvalShow, "approval.allow": approval.approvalAllow, "approval.deny": approval.approvalDeny,
  "agent.list": state.agentList, "agent.show": state.agentShow, "agent.apply": state.agentApply, "agent.remove": state.agentRemove, "agent.start": state.agentStart,
  "agent.stop": state.agentStop,
  "memory.list": state.memoryList, "memory.show": state.memoryShow, "memory.add": state.memoryAdd, "memory.edit": state.memoryEdit, "memory.forget": state.memoryForget,
  "memory.history": state.memoryHistory, "memory.search": state.memorySearch,
  connect: connect.connect, "node.ping": connect.nodePing, "service.list": connect.serviceList,
  "vault.set": vault.vaultSet, "vault.get": vault.vaultGet, "vault.list": vault.vaultList, "vault.rotate": vault.vaultRotate, "vault.remove": vault.vaultRemove,
  "update.check": update.updateCheck, "update.list": update.updateList, "update.show": update.updateShow, "update.plan": update.updatePlan, "update.fetch": update.updateFetch,
  "update.try": update.updateTry, "update.apply": update.updateApply, "update.boot": update.updateBoot, "update.rollback": update.updateRollback,
  "update.history": update.updateHistory, "update.slots": update.updateSlots, "update.channel": update.updateChannel, "update.advise": update.updateAdvise,
  "update.stop": update.updateStop, "update.pin": update.updatePin, "update.pause": update.updatePause, "update.resume": update.updateResume,
  "update.export": update.updateExport, "update.import": update.updateImport,
  "seed.list": update.seedList, "seed.add": update.seedAdd, "seed.remove": update.seedRemove, "seed.limit": update.seedLimit, "event.types": update.eventTypes,
  "release.key": release.releaseKey, "release.init": release.releaseInit, "release.pack": release.releasePack, "release.sign": release.releaseSign,
  "release.publish": release.releasePublish, "release.yank": release.releaseYank, "release.rotate": release.releaseRotate, "release.delegate": release.releaseDelegate,
  "release.withdraw": release.releaseWithdraw, "release.list": release.releaseList, "release.show": release.releaseShow,
  "daemon.run": everyday.daemonRun,
  "dht.run": (value) => [`DHT on ${value.host}:${value.port}. Nodes use it with: kos config set network.bootstrap ${value.bootstrap}`],
  completion: (value) => [value.script.replace(/\n$/, "")],
  help: (value) => [value.text]
}

const byName = new Map<string, (value: never, view: View) => Lines>(Object.entries(renderers))

/** The value must have been decoded by the operation's own output schema. */
export const render = (name: string, value: unknown, view: View): Lines => byName.get(name)?.(value as never, view) ?? []
