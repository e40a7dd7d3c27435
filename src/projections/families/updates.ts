/** Texts in settings of updates: what a channel's code, a mirror and a veto's holder look like. */

/** `kos-channel:`, then key of the log and SHA-256 of the first root as 103 characters of base32 (RFC 4648 section 6, lower case, no padding). */
export const channelPattern = /^(kos-channel:[a-z2-7]{103})?$/
export const channelWords = "a channel's code, which begins with kos-channel:"
export const mirrorPattern = /^https?:\/\/[^\s"'<>]{1,480}$/
export const mirrorWords = "web addresses such as http://mirror.example/kos"
export const vetoPattern = /^(agent:[A-Za-z0-9][A-Za-z0-9._-]{0,95}|person:[^\s]{1,95}|role:(owner|admin|member)|node:[^\s]{1,96})$/
export const vetoWords = "agent:NAME, person:NAME, role:ROLE or node:NAME"
