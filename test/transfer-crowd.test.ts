/** Who fetches which piece when several fetch at the same time; that the first then sends little more than one pack is in processes/transfer.test.ts. */
import { createHash } from "node:crypto"
import t from "tap"
import { makeSpread } from "../src/updates/transfer/spread.ts"
import { mebibyte } from "./transfer-lab.ts"

const deviceOf = (name: string): string => createHash("sha256").update(name).digest("hex")

t.test("each piece belongs to one of those that fetch, all agree on whom, and a silent one holds up nobody", async (t) => {
  let time = 0
  const names = ["one", "two", "three"].map(deviceOf)
  const spreads = names.map((own) => {
    const spread = makeSpread(own, mebibyte, () => time)
    for (const other of names) if (other !== own) spread.heard(other)
    return spread
  })
  time = 100
  const owners = Array.from({ length: 300 }, (_, index) => spreads.filter((spread) => spread.mine(index)).length)
  t.ok(owners.every((count) => count === 1))
  for (const spread of spreads) {
    const mine = owners.filter((_, index) => spread.mine(index)).length
    t.ok(mine > 60 && mine < 140, `${mine} of 300`)
    t.ok(spread.crowded())
  }
  const [one] = spreads
  time = 2_900
  one?.progress()
  one?.heard(names[1] ?? "")
  time = 8_000
  one?.progress()
  const withTwo = owners.filter((_, index) => one?.mine(index)).length
  t.ok(withTwo > 100 && withTwo < 200, `${withTwo} of 300 when one of three is silent`)
  time = 8_000 + 3_100
  t.ok(owners.every((_, index) => one?.mine(index)), "when nothing comes, all are everybody's")
  one?.left(names[1] ?? "")
  time += 100
  t.notOk(one?.crowded())
})
