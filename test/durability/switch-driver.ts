/**
 * Does what is asked with the slots of a home, says each finished thing on stdout, and kills itself where it is told to: before the n-th step on the disk, or in the
 * middle of writing a tree. Without such a place it goes on by chance until it is killed.
 */
import { mkdirSync, writeFileSync, writeSync } from "node:fs"
import { openDirectorySlots } from "../../src/boot/slots-directories.ts"
import { chance } from "../membership-world.ts"
import { filesMax, type Plan } from "./switch-plan.ts"
import { releaseId, writeVersion } from "../slots-help.ts"

const plan: Plan = JSON.parse(process.argv[2] ?? "")
const { below } = chance(plan.seed)
let steps = 0
const die = (): never => {
  process.kill(process.pid, "SIGKILL")
  throw new Error("it lives on")
}
const slots = await openDirectorySlots({
  root: plan.root, name: "kos", factory: { version: "0.1.0", path: plan.pkg },
  onStep: () => {
    steps++
    if (steps === plan.dieAtStep) die()
  }
})
const say = (text: string): void => { writeSync(1, `${text}\n`) }

const write = async (directory: string): Promise<void> => {
  const dieAt = plan.dieAtFile ?? -1
  mkdirSync(`${directory}/src`)
  for (let n = 0; n < filesMax; n++) {
    if (n === dieAt) die()
    writeFileSync(`${directory}/src/${n}`, `file ${n}`)
  }
  writeVersion(directory, "good")
}
const stage = async (n: number): Promise<number> => {
  const { generation } = await slots.stage({ name: "kos", version: `1.0.${n}`, release: releaseId(n), write })
  say(`staged ${n} ${generation}`)
  return generation
}
const trial = { tries: 2, deadlineMs: 60_000 }
const make = async (n: number): Promise<number> => {
  const generation = await stage(n)
  await slots.activate(generation, trial)
  say(`activated ${n} ${generation}`)
  return generation
}
const good = async (generation: number): Promise<void> => {
  say(`begins good ${generation}`)
  await slots.good(generation)
  say(`good ${generation}`)
}
const back = async (generation?: number): Promise<void> => {
  say("begins back")
  const slot = await slots.rollback(generation, "it does not please")
  say(`back ${slot.generation}`)
}

/** Each of them changes things in another way; before it comes to what is asked, steps do not count. */
const once = async (): Promise<void> => {
  const { n } = plan
  switch (plan.what) {
    case "stage":
      await stage(n)
      break
    case "activate":
      await make(n)
      break
    case "good": {
      const generation = await make(n)
      steps = 0
      await good(generation)
      break
    }
    case "rollback": {
      await good(await make(n))
      steps = 0
      await back()
      break
    }
    case "fail": {
      await make(n)
      steps = 0
      await back()
      const failed = await slots.failed()
      if (failed !== undefined) await slots.settle(failed.slot.generation)
      break
    }
    case "drop": {
      const first = await stage(n)
      steps = 0
      await slots.drop(first)
      break
    }
    case "anything": {
      const all = await slots.list()
      const idle = all.filter(({ generation, state }) => generation > 0 && state !== "current" && state !== "trial")
      const tried = all.find(({ state }) => state === "trial")
      const pick = idle[below(Math.max(1, idle.length))]
      if (idle.length > 6 && pick !== undefined) await slots.drop(pick.generation)
      else if (tried === undefined && pick !== undefined && below(2) === 0) {
        await slots.activate(pick.generation, trial)
        say(`activated 0 ${pick.generation}`)
      } else if (tried !== undefined && below(2) === 0) await good(tried.generation)
      else if (tried !== undefined || (below(4) === 0 && all.some(({ generation, state }) => generation > 0 && state === "current"))) await back()
      else await stage(n + steps + 1_000 * below(1_000_000))
      break
    }
  }
}

say("ready")
do await once()
while (plan.what === "anything")
say("done")
