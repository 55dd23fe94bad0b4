#!/usr/bin/env bash
# PGlite's socket server: a query of one connection is answered with the statement of another.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
pglite=0.5.14
socket=0.2.17
version=3.4.9
{ npm init --yes && npm install --no-audit --no-fund "@electric-sql/pglite@$pglite" "@electric-sql/pglite-socket@$socket" "postgres@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'
import postgres from 'postgres'

const db = await PGlite.create()
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0, maxConnections: 4 })
await server.start()
const port = Number(server.getServerConn().split(':').pop())
const count = async (options) => {
  const sql = postgres({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres', ...options })
  const answers = await Promise.allSettled(Array.from({ length: 200 }, (_, i) => (i % 2 ? sql`SELECT ${i}::int AS n` : sql`SELECT ${i}::int * 1000 AS n`)))
  await sql.end()
  const values = answers.map(({ value }) => value?.[0].n)
  return values.filter((n, i) => n !== undefined && n !== (i % 2 ? i : i * 1000)).length
}
const seen = {
  'one connection': await count({ max: 1, prepare: false }),
  'four, named statements': await count({ max: 4, prepare: true }),
  'four, unnamed': await count({ max: 4, prepare: false }),
}
await server.stop()
await db.close()
console.log('seen:     wrong of 200 answers:', seen)
if (seen['one connection'] !== 0 || seen['four, named statements'] !== 0 || seen['four, unnamed'] < 10) {
  console.log('CHANGED: not wrong answers for unnamed statements of four connections alone')
  process.exitCode = 1
}
EOT
echo "version:  @electric-sql/pglite $pglite, its socket server $socket, postgres $version with prepare: false, Node $(node --version)"
echo "expected: the answer to the query that was sent: an unnamed statement belongs to its connection (manual, Message Flow: Extended Query)"
node main.mjs
echo "as stated: another Parse comes between Parse and Bind: rows of the other query are returned, mostly without an error; one connection, or named statements, are right"
