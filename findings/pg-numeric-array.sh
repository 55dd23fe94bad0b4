#!/usr/bin/env bash
# node-postgres: numeric comes as a text that keeps its digits, numeric[] as floats that do not.
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
const { rows } = await client.query("SELECT n, array_agg(n) AS ns, array_agg(9007199254740993) AS int8s FROM (VALUES (1234567890123456.78)) t (n) GROUP BY n")
await client.end()
await server.stop()
await db.close()
const seen = JSON.stringify(rows[0])
console.log(`seen:     ${seen}`)
if (seen !== '{"n":"1234567890123456.78","ns":[1234567890123456.8],"int8s":["9007199254740993"]}') {
  console.log('CHANGED: not a string alone and a float in the array')
  process.exitCode = 1
}
EOT
echo "version:  pg $version; the server is @electric-sql/pglite $pglite behind its socket server $socket, Node $(node --version)"
echo "expected: the digits in both: numeric is given as a string so that nothing is lost, and int8[] as strings too"
node main.mjs
echo "as stated: array_agg() of amounts rounds them: the sum of the array is not the sum of the rows"
