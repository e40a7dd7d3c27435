/* IMPORTANT
 * This snapshot file is auto-generated, but designed for humans.
 * It should be checked into source control and tracked carefully.
 * Re-generate by setting TAP_SNAPSHOT=1 and running tests.
 * Make sure to inspect the output below.  Do not ignore changes!
 */
'use strict'
exports[`test/cli.test.ts > TAP > help: pages, topics, near misses > kos help 1`] = `
kos: a node of a society of devices that needs no server

usage: kos [--home DIR] [--json] NOUN VERB …

everyday:
  status      Say how this node and its mesh are, in one sentence and a few lines.
  init        Make this directory a node: name, keys, log and settings.
  doctor      Look for what is wrong and say what to do about it; with --rebuild, rebuild all state from the logs and compare.
  events      Show the newest events; with -f, go on showing them as they come.
  logs        Show what the daemon logged; with -f, go on showing it as it comes.
  wait        Wait until the node is ready, in step with its peers, or in touch with one of them.
  join        Enter a mesh with an invite; beside the meshes that this node is in, unless it is alone.
  leave       Leave the mesh; this node keeps what it holds, and is a mesh of its own again when that was its last one.
  connect     Connect to a service of another node through the mesh: stdin and stdout, or a local port.
  completion  Print a completion script for a shell.
  help        Explain a command or a topic: exit-codes, environment, files.

nouns:
  mesh      create, list, use, show, mode, federate, threshold
  invite    create, list, confirm, revoke
  node      list, show, name, ping, role, revoke, clear
  service   list
  key       show, seal, unseal, backup, restore, words, recover, rotate
  sync      status, now, pause, resume, export, import
  event     list, show, diff, at, verify, export, types
  config    show, get, set, unset, edit, validate, diff, apply, history, revert, conflicts, resolve, explain
  approval  list, show, allow, deny
  agent     list, show, apply, remove, start, stop
  memory    list, show, add, edit, forget, history, search
  vault     set, get, list, rotate, remove
  update    check, list, show, plan, fetch, try, apply, boot, rollback, history, slots, channel, advise, stop, pin, pause, resume, export, import
  seed      list, add, remove, limit
  release   key, init, pack, sign, publish, yank, rotate, delegate, withdraw, list, show
  daemon    run
  dht       run

more: kos help NOUN [VERB] · kos help exit-codes · kos help environment · kos help files
first steps: kos init, kos daemon run, kos status
`

exports[`test/cli.test.ts > TAP > help: pages, topics, near misses > kos help config set 1`] = `
Set one value.

usage: kos config set PATH [VALUE] [flags]

arguments:
  PATH   a setting, for example network.port
  VALUE  the value; read from stdin when it is -

flags:
      --layer mesh|role|node  layer to write: mesh (everybody), role or node (this one) (default node)
      --role ROLE             which role, with --layer role

everywhere:
      --json       print one JSON value, and failures as one RFC 9457 object on stderr
      --home DIR   the node in this directory (or KOS_HOME)
      --as ACTOR   act as agent:NAME or person:NAME on this device
      --mesh NAME  in this mesh (or KOS_MESH), by name or beginning of its id; the default one: kos mesh list
      --no-color   no colours (or NO_COLOR)
  -h, --help       explain the command
  -V, --version    print the version

Text can come from stdin; - says so.

examples:
  kos config set network.port 4077
  kos config set log.level debug --layer mesh
`

exports[`test/cli.test.ts > TAP > help: pages, topics, near misses > kos help events 1`] = `
Show the newest events; with -f, go on showing them as they come.

usage: kos events [flags]

flags:
  -f, --follow           go on until interrupted
      --type TYPE        only this type, or a prefix that ends in *
      --node NODE        only events of this node (name or beginning of its key)
      --actor ACTOR      only events of this actor: device, agent:NAME or person:NAME
      --subject SUBJECT  only events about this, or a prefix that ends in / or *
      --since SINCE      from here on: @NUMBER, address, time, or a duration such as 2h
      --until UNTIL      up to here: @NUMBER, address, time, or a duration such as 2h
  -n, --limit N          how many of the newest to begin with (default 20)

everywhere:
      --json       print one JSON value, and failures as one RFC 9457 object on stderr
      --home DIR   the node in this directory (or KOS_HOME)
      --as ACTOR   act as agent:NAME or person:NAME on this device
      --mesh NAME  in this mesh (or KOS_MESH), by name or beginning of its id; the default one: kos mesh list
      --no-color   no colours (or NO_COLOR)
  -h, --help       explain the command
  -V, --version    print the version

examples:
  kos events
  kos events -f --type 'config.*'
`

exports[`test/cli.test.ts > TAP > help: pages, topics, near misses > kos help invite 1`] = `
usage: kos invite VERB

verbs:
  invite create      Make an invite for another device.
  invite list        List invites, what became of them, and who waits to be confirmed.
  invite confirm ID  Let a candidate in as admin or owner, after comparing the six words on both screens.
  invite revoke ID   Withdraw an invite.

more: kos help invite VERB
`

exports[`test/cli.test.ts > TAP > status is one sentence first, at most 24 lines, and ends with the next command > status 1`] = `
All well. 2 of 3 nodes in touch; 4 events waiting for \`attic\`.

node    cellar (ready, joined), up 3 h, pid 4711
mesh    hill, 3 members, 2 in touch
events  120,400 (312 own), newest @120400
disk    12.3 MB used, 40.0 GB free

peer    in touch  waiting  behind  last seen
node-0  lan             0       0  now
node-1  no              1       0  2 h ago

! 2 conflicts: kos config conflicts --all
! 2 frames or events in quarantine: kos event verify

Next: kos sync status
`
