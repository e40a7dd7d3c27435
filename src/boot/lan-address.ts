/** Which addresses belong to the network that this machine stands in. */
import { BlockList, isIP } from "node:net"
import { networkInterfaces } from "node:os"
import { parseAddress } from "../projections/families/values.ts"

const lan = new BlockList()
for (const [net, prefix] of [["10.0.0.0", 8], ["172.16.0.0", 12], ["192.168.0.0", 16], ["169.254.0.0", 16], ["127.0.0.0", 8]] as const) lan.addSubnet(net, prefix, "ipv4")
for (const [net, prefix] of [["::1", 128], ["fc00::", 7], ["fe80::", 10]] as const) lan.addSubnet(net, prefix, "ipv6")

/** Loopback, link-local or private; false for whatever is no IP address. A zone (`%eth0`) does not count. */
export const isLanAddress = (address: string): boolean => {
  const plain = plainAddress(address)
  const family = isIP(plain)
  return family !== 0 && lan.check(plain, family === 4 ? "ipv4" : "ipv6")
}

/** The host of `1.2.3.4:5`, `[fe80::1%eth0]:5` and the like, when it is a LAN address. */
export const lanHostOf = (remote: string): string | undefined => {
  const bare = /^(.+):[0-9]{1,5}$/u.exec(remote)?.[1] ?? remote
  const host = parseAddress(remote)?.host ?? bare.replace(/^\[|\]$/gu, "")
  return isLanAddress(host) ? host : undefined
}

/** As it is written without zone and without IPv4's form in IPv6. */
export const plainAddress = (address: string): string => address.replace(/^::ffff:/iu, "").replace(/%.*$/u, "").toLowerCase()

/** This machine's LAN addresses; a link-local one of IPv6 carries its zone, without which it cannot be listened at. */
export const ownLanAddresses = (): ReadonlyArray<string> =>
  Object.entries(networkInterfaces()).flatMap(([name, list]) => (list ?? []).flatMap(({ address, scopeid }) =>
    !isLanAddress(address) ? [] : scopeid === undefined || scopeid === 0 ? [address] : [`${address}%${name}`]))
