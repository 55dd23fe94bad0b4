#!/usr/bin/env bash
# PGlite's socket server: the database, the options and the application_name that a client asks for are ignored.
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
await db.exec('CREATE DATABASE first')
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0, maxConnections: 2 })
await server.start()
const port = Number(server.getServerConn().split(':').pop())
const seen = []
for (const database of ['first', 'missing']) {
  const client = new pg.Client({ host: '127.0.0.1', port, user: 'postgres', database, options: '-c search_path=mine', application_name: 'test' })
  await client.connect()
  const { rows } = await client.query("SELECT current_database() AS database, current_setting('search_path') AS path, current_setting('application_name') AS name")
  seen.push(JSON.stringify(rows[0]))
  await client.end()
}
await server.stop()
await db.close()
console.log(`seen:     in the databases first and missing: ${seen.join(' and ')}`)
if (seen.some((s) => s !== '{"database":"postgres","path":"public","name":""}')) {
  console.log('CHANGED: not the database postgres with its own settings')
  process.exitCode = 1
}
EOT
echo "version:  @electric-sql/pglite $pglite, its socket server $socket, pg $version, Node $(node --version)"
echo "expected: error 3D000 for a database that is not there, else a connection to it with these settings (manual, Message Flow: Start-up)"
node main.mjs
echo "as stated: test runs that have a database each, by its name or by a search_path, write into the same tables"
