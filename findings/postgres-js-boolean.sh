#!/usr/bin/env bash
# postgres.js: any value but true itself is sent to a boolean as false: 'true', 'yes' and 1 too.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=3.4.9
pglite=0.5.14
socket=0.2.17
{ npm init --yes && npm install --no-audit --no-fund "postgres@$version" "@electric-sql/pglite@$pglite" "@electric-sql/pglite-socket@$socket"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'
import postgres from 'postgres'

const db = await PGlite.create()
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0 })
await server.start()
const sql = postgres({ host: '127.0.0.1', port: Number(server.getServerConn().split(':').pop()), user: 'postgres', database: 'postgres', max: 1 })
await sql`CREATE TABLE flag (value boolean)`
const seen = []
for (const value of [true, 'true', 'yes', '1', 1]) {
  const [row] = await sql`INSERT INTO flag VALUES (${value}) RETURNING value`
  seen.push(`${JSON.stringify(value)} as ${row.value}`)
}
await sql.end()
await server.stop()
await db.close()
console.log(`seen:     ${seen.join(', ')}`)
if (seen.join() !== 'true as true,"true" as false,"yes" as false,"1" as false,1 as false') {
  console.log('CHANGED: not true for true alone')
  process.exitCode = 1
}
EOT
echo "version:  postgres $version; the server is @electric-sql/pglite $pglite behind its socket server $socket, Node $(node --version)"
echo "expected: true for 'true', 'yes' and '1', which PostgreSQL takes for true (manual, 8.6), and for 1, or an error"
node main.mjs
echo "as stated: a form field, or a value of JSON or of another database, is stored as its opposite; a WHERE finds the other rows"
