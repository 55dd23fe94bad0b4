#!/usr/bin/env bash
# Knex: limit and orderBy are left out of an UPDATE for PostgreSQL without a word; a DELETE with limit is refused.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=3.3.0
pg=8.23.1
pglite=0.5.14
socket=0.2.17
{ npm init --yes && npm install --no-audit --no-fund "knex@$version" "pg@$pg" "@electric-sql/pglite@$pglite" "@electric-sql/pglite-socket@$socket"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'
import knexOf from 'knex'

const db = await PGlite.create()
await db.exec("CREATE TABLE job (id int, state text); INSERT INTO job SELECT i, 'new' FROM generate_series(1, 5) i")
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0, maxConnections: 2 })
await server.start()
const port = Number(server.getServerConn().split(':').pop())
const knex = knexOf({ client: 'pg', connection: { host: '127.0.0.1', port, user: 'postgres', database: 'postgres' }, pool: { min: 1, max: 1 } })
const first = () => knex('job').where({ state: 'new' }).orderBy('id').limit(1)
const refused = await first().del().catch((error) => error.message)
const updated = await first().update({ state: 'taken' })
const query = first().update({ state: 'taken' }).toString()
await knex.destroy()
await server.stop()
await db.close()
console.log(`seen:     updated: ${updated} of 5, by ${query}; a delete: ${refused}`)
if (updated !== 5 || !/`limit` has no effect/.test(refused)) {
  console.log('CHANGED: not all five updated, and a delete refused')
  process.exitCode = 1
}
EOT
echo "version:  knex $version, pg $pg; the server is @electric-sql/pglite $pglite behind its socket server $socket, Node $(node --version)"
echo "expected: one row, or the error that a delete gives"
node main.mjs
echo "as stated: a worker that takes the next job takes all of them, and does one"
