#!/usr/bin/env bash
# node-postgres: an empty array that is passed for a jsonb column is stored as an empty object.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=8.23.1
knex=3.3.0
pglite=0.5.14
socket=0.2.17
{ npm init --yes && npm install --no-audit --no-fund "pg@$version" "knex@$knex" "@electric-sql/pglite@$pglite" "@electric-sql/pglite-socket@$socket"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'
import knexOf from 'knex'
import pg from 'pg'

const db = await PGlite.create()
await db.exec('CREATE TABLE note (tags jsonb)')
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0, maxConnections: 2 })
await server.start()
const connection = { host: '127.0.0.1', port: Number(server.getServerConn().split(':').pop()), user: 'postgres', database: 'postgres' }
const client = new pg.Client(connection)
await client.connect()
const put = async (tags) => {
  try {
    return JSON.stringify((await client.query('INSERT INTO note VALUES ($1) RETURNING tags', [tags])).rows[0].tags)
  } catch (error) {
    return error.code
  }
}
const seen = [await put({ a: [] }), await put(['x']), await put([])]
await client.end()
const knex = knexOf({ client: 'pg', connection, pool: { min: 0, max: 1 } })
seen.push(JSON.stringify((await knex('note').insert({ tags: [] }).returning('tags'))[0].tags))
await knex.destroy()
await server.stop()
await db.close()
console.log(`seen:     an object: ${seen[0]}; ['x']: ${seen[1]}; []: ${seen[2]}; [] with Knex: ${seen[3]}`)
if (seen.join(' ') !== '{"a":[]} 22P02 {} {}') {
  console.log('CHANGED: not the object, an error, and {} for []')
  process.exitCode = 1
}
EOT
echo "version:  pg $version, knex $knex; the server is @electric-sql/pglite $pglite behind its socket server $socket, Node $(node --version)"
echo "expected: [], or the error (22P02) that ['x'] gives: pg writes objects as JSON, and arrays as PostgreSQL's arrays, whose empty one is {}"
node main.mjs
echo "as stated: a list that is empty when a row is made becomes an object, on which map() and jsonb_array_length() fail later"
