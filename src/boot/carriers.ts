import { settingFlag, settingInteger, settingTexts, type Config } from "../projections/families/config-view.ts"
import { parseAddress } from "../projections/families/values.ts"
import type { Carrier } from "../swarm/carrier.ts"
import { makeHyperswarmCarrier } from "../swarm/carriers/hyperswarm.ts"
import { makeLanCarrier } from "../swarm/carriers/lan.ts"

/** The carriers that the settings ask for. `bootstrap` of an invite counts while nobody set another; with `anyPort` the port that is set is in use already. */
export const carriersBy = (config: Config<unknown>, inviteBootstrap: ReadonlyArray<string>, anyPort = false): ReadonlyArray<Carrier> => {
  const carriers: Array<Carrier> = []
  if (settingFlag(config, "network.dht")) {
    const set = settingTexts(config, "network.bootstrap")
    const bootstrap = (set.length > 0 ? set : inviteBootstrap).flatMap((text) => parseAddress(text) ?? [])
    carriers.push(makeHyperswarmCarrier(bootstrap.length === 0 ? {} : { bootstrap }))
  }
  if (settingFlag(config, "network.lan")) carriers.push(makeLanCarrier({ port: anyPort ? 0 : settingInteger(config, "network.port") }))
  return carriers
}
