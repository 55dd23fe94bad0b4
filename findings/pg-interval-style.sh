#!/usr/bin/env bash
# node-postgres: with an IntervalStyle other than postgres an interval comes back as nothing.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=8.23.1
pglite=0.5.14
socket=0.2.17
{ npm init --yes && npm install --no-audit --no-fund "pg@$version" "@electric-sql/pglite@$pglite" "@electric-sql/pglite-socket@$socket"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'
import pg from 'pg'

const db = await PGlite.create()
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0 })
await server.start()
const client = new pg.Client({ host: '127.0.0.1', port: Number(server.getServerConn().split(':').pop()), user: 'postgres', database: 'postgres' })
await client.connect()
const seen = []
for (const style of ['postgres', 'postgres_verbose', 'sql_standard', 'iso_8601']) {
  await client.query(`SET IntervalStyle = ${style}`)
  const { rows } = await client.query("SELECT interval '1 day 02:03:04' AS value")
  seen.push(`${style} ${JSON.stringify(rows[0].value)}`)
}
await client.end()
await server.stop()
await db.close()
console.log(`seen:     ${seen.join(', ')}`)
if (seen.join() !== 'postgres {"days":1,"hours":2,"minutes":3,"seconds":4},postgres_verbose {},sql_standard {},iso_8601 {}') {
  console.log('CHANGED: not {} for all but postgres')
  process.exitCode = 1
}
EOT
echo "version:  pg $version; the server is @electric-sql/pglite $pglite behind its socket server $socket, Node $(node --version)"
echo "expected: the interval, its text, or an error: IntervalStyle has four values (manual, 8.5.5), and a database or a role may be set to any"
node main.mjs
echo "as stated: an empty object, or wrong parts: every duration is zero, and nothing says why"
