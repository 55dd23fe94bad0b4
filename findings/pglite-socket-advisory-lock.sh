#!/usr/bin/env bash
# PGlite's socket server: an advisory lock that one connection holds is given to another.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
pglite=0.5.14
socket=0.2.17
version=8.23.1
{ npm init --yes && npm install --no-audit --no-fund "@electric-sql/pglite@$pglite" "@electric-sql/pglite-socket@$socket" "pg@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'
import pg from 'pg'

const db = await PGlite.create()
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0, maxConnections: 2 })
await server.start()
const port = Number(server.getServerConn().split(':').pop())
const clients = []
const seen = []
for (const _ of 'ab') {
  const client = new pg.Client({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres' })
  await client.connect()
  clients.push(client)
  seen.push((await client.query('SELECT pg_try_advisory_lock(1) AS mine')).rows[0].mine)
}
await Promise.all(clients.map((client) => client.end()))
await server.stop()
await db.close()
console.log(`seen:     pg_try_advisory_lock(1) of the first: ${seen[0]}, of the second: ${seen[1]}`)
if (seen.join() !== 'true,true') {
  console.log('CHANGED: not true twice')
  process.exitCode = 1
}
EOT
echo "version:  @electric-sql/pglite $pglite, its socket server $socket, pg $version, Node $(node --version)"
echo "expected: true and then false: a lock at session level is held until it is released or the session ends (manual, 13.3.5)"
node main.mjs
echo "as stated: all connections are one session: two migrations or two workers run at the same time, each sure that it holds the lock"
