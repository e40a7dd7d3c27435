import * as fs from "node:fs"
import * as path from "node:path"
import type { BenchCase } from "../case.ts"
import { autobaseSide, prepareAutobase } from "../peers/autobase.ts"
import { makeWorkload } from "../workload.ts"

export const benchCase: BenchCase = {
  name: "offline",
  about: "x",
  secondsMax: 300,
  prepare: async ({ dir, short }) => {
    const workload = makeWorkload(short ? 4_000 : 100_000)
    const sub = (name: string) => {
      fs.mkdirSync(path.join(dir, name))
      return path.join(dir, name)
    }
    await prepareAutobase(sub("autobase"), workload)
  },
  sides: { "autobase": autobaseSide("autobase", true), "autobase-fold": autobaseSide("autobase", false) },
  rows: [
    { title: "back after offline, against autobase", unit: "changes/s", ours: { side: "kos" }, peer: { side: "autobase" }, ratio: "ours/peer", target: { kind: "ratio-min", value: 4 } }
  ]
}
