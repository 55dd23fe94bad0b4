#!/usr/bin/env bash
# postgres.js: a NULL in an array comes back as the text NULL, as NaN or as false.
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
const [row] = await sql`SELECT ARRAY['a', NULL, 'NULL'] AS text, ARRAY[1, NULL] AS int4, ARRAY[true, NULL] AS bool, NULL::text AS alone`
await sql.end()
await server.stop()
await db.close()
console.log('seen:    ', row)
if (row.text[1] !== 'NULL' || row.text[2] !== 'NULL' || !Number.isNaN(row.int4[1]) || row.bool[1] !== false || row.alone !== null) {
  console.log('CHANGED: not NULL, NaN and false')
  process.exitCode = 1
}
EOT
echo "version:  postgres $version; the server is @electric-sql/pglite $pglite behind its socket server $socket, Node $(node --version)"
echo "expected: null in its place, in each of them: an unquoted NULL in the output of an array is a null (manual, 8.15.6), and a null alone comes as null"
node main.mjs
echo "as stated: whoever counts, sums or shows the elements works with values that are not there; node-postgres gives null"
