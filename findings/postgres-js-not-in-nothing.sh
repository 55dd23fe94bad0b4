#!/usr/bin/env bash
# postgres.js: NOT IN of an empty list finds no row.
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
await db.exec('CREATE TABLE note (id int); INSERT INTO note VALUES (1), (2), (3)')
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0, maxConnections: 2 })
await server.start()
const sql = postgres({ host: '127.0.0.1', port: Number(server.getServerConn().split(':').pop()), user: 'postgres', database: 'postgres', max: 1 })
const seen = []
for (const ids of [[1, 2], [1], []]) {
  seen.push((await sql`SELECT id FROM note WHERE id NOT IN ${sql(ids)}`).length)
}
const [{ n }] = await sql`SELECT count(*)::int AS n FROM note WHERE id <> ALL (${[]}::int[])`
await sql.end()
await server.stop()
await db.close()
console.log(`seen:     rows not in [1, 2]: ${seen[0]}, not in [1]: ${seen[1]}, not in []: ${seen[2]}; <> ALL of []: ${n}`)
if (seen.join() !== '1,2,0' || n !== 3) {
  console.log('CHANGED: not 1, 2 and 0, and 3 with ALL')
  process.exitCode = 1
}
EOT
echo "version:  postgres $version; the server is @electric-sql/pglite $pglite behind its socket server $socket, Node $(node --version)"
echo "expected: 3 for the empty list, or an error: Knex and Drizzle make a true condition of it; the list is written as (NULL), which is in order for IN only"
node main.mjs
echo "as stated: with nothing to leave out, everything is left out: a clean-up finds nothing to do, a feed without blocked people is empty"
