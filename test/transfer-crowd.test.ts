/** Several that fetch at the same time give to each other what they have, so that the first sends little more than one pack. */
import t from "tap"
import { makeSpread } from "../src/updates/transfer/spread.ts"
import { holds, mebibyte, neighbours, packOf, sha256Of, type Side, sideOf, soon, whole } from "./transfer-lab.ts"
import { createHash } from "node:crypto"

const deviceOf = (name: string): string => createHash("sha256").update(name).digest("hex")

t.test("three fetch at once and the first does not send three packs", async (t) => {
  const pack = await packOf(t, 24 * mebibyte)
  // The first is slower than the others among each other, as a publisher's line is.
  const first = sideOf(t, "first", { limits: { uploadMax: 12 * mebibyte, downloadMax: 0 } })
  await holds(first, pack)
  const names = ["one", "two", "three"]
  const sides: ReadonlyArray<readonly [Side, string]> = names.map((name) => [sideOf(t, name, { patience: { wantedEveryMs: 3_000 } }), deviceOf(name)])
  for (const [n, [side, device]] of sides.entries()) neighbours(side, device, [[first, deviceOf("first")], ...sides.slice(0, n)], "lan")
  const files = await Promise.all(sides.map(([side]) => side.ensure(pack.ref, whole(pack), soon(25_000))))
  for (const file of files) t.equal(sha256Of(file), pack.ref.sha256)
  const sent = ((await first.status()).seeds[0]?.uploaded ?? 0) / pack.ref.length
  t.ok(sent < 2.2, `the first sent ${sent.toFixed(2)} packs`)
})

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
