#!/usr/bin/env bash
# postgres.js: an array whose lower bound is not 1 comes back with one dimension more.
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
const [row] = await sql`SELECT ARRAY[1, 2] AS plain, '[0:1]={1,2}'::int[] AS bounds, array_length('[0:1]={1,2}'::int[], 1) AS length`
await sql.end()
await server.stop()
await db.close()
const seen = JSON.stringify(row)
console.log(`seen:     ${seen}`)
if (seen !== '{"plain":[1,2],"bounds":[[1,2]],"length":2}') {
  console.log('CHANGED: not [[1,2]] for an array of two')
  process.exitCode = 1
}
EOT
echo "version:  postgres $version; the server is @electric-sql/pglite $pglite behind its socket server $socket, Node $(node --version)"
echo "expected: [1, 2] or an error: the bounds that PostgreSQL writes before such an array change no dimension (manual, 8.15.6)"
node main.mjs
echo "as stated: the length is 1, and the first element is the array"
