#!/usr/bin/env bash
# postgres.js: an insert of several objects has the columns of the first, and drops what only the others have.
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
await sql`CREATE TABLE person (name text, mail text DEFAULT 'none')`
await sql`INSERT INTO person ${sql([{ name: 'ann' }, { name: 'bob', mail: 'bob@example.com' }])}`
const rows = await sql`SELECT name, mail FROM person ORDER BY name`
await sql.end()
await server.stop()
await db.close()
const seen = rows.map((row) => `${row.name} ${row.mail}`).join(', ')
console.log(`seen:     ${seen}`)
if (seen !== 'ann none, bob none') {
  console.log('CHANGED: not none for both')
  process.exitCode = 1
}
EOT
echo "version:  postgres $version; the server is @electric-sql/pglite $pglite behind its socket server $socket, Node $(node --version)"
echo "expected: ann with null or the default, and bob with his mail, or an error; the README inserts 'an array of objects' and asks for no equal keys"
node main.mjs
echo "as stated: a value is lost without an error, depending on the order of the rows"
