#!/usr/bin/env bash
# postgres.js: the text of a timestamptz loses its microseconds, and without a zone is read in that of the process.
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
await sql`CREATE TABLE event (at timestamptz)`
await sql`INSERT INTO event VALUES ('2026-01-01 12:00:00.123456+00')`
const [{ text }] = await sql`SELECT at::text AS text FROM event`
const found = (await sql`SELECT FROM event WHERE at = ${text}`).length
const [{ zone, bare }] = await sql`SELECT current_setting('timezone') AS zone, ${'2026-01-01 12:00'}::timestamptz::text AS bare`
await sql.end()
await server.stop()
await db.close()
console.log(`seen:     rows whose time is their own text ${text}: ${found}; 2026-01-01 12:00 in a session of ${zone}: ${bare}`)
if (text !== '2026-01-01 12:00:00.123456+00' || found !== 0 || bare !== '2026-01-01 17:00:00+00') {
  console.log('CHANGED: not no row, and five hours later')
  process.exitCode = 1
}
EOT
echo "version:  postgres $version; the server is @electric-sql/pglite $pglite behind its socket server $socket, Node $(node --version)"
echo "expected: the text as PostgreSQL reads it: microseconds are kept, and without a zone that of the session holds (manual, 8.5.1.3)"
TZ=America/New_York node main.mjs
echo "as stated: a text is made a Date before it is sent: a row is not found by its own time, so pages by keyset repeat or skip rows"
