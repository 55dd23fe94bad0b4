#!/usr/bin/env bash
# Knex, TypeORM: an upsert of several rows sets what one of them does not name to the default, in the row that is there already.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
knex=3.3.0
typeorm=1.1.1
pg=8.23.1
pglite=0.5.14
socket=0.2.17
{ npm init --yes && npm install --no-audit --no-fund "knex@$knex" "typeorm@$typeorm" "pg@$pg" "@electric-sql/pglite@$pglite" "@electric-sql/pglite-socket@$socket"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'
import knexOf from 'knex'
import { DataSource, EntitySchema } from 'typeorm'

const db = await PGlite.create()
await db.exec('CREATE TABLE person (id int PRIMARY KEY, name text, mail text)')
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0, maxConnections: 2 })
await server.start()
const connection = { host: '127.0.0.1', port: Number(server.getServerConn().split(':').pop()), user: 'postgres', database: 'postgres' }
const knex = knexOf({ client: 'pg', connection, pool: { min: 0, max: 1 } })
const columns = { id: { type: 'int', primary: true }, name: { type: 'text', nullable: true }, mail: { type: 'text', nullable: true } }
const { user: username, ...rest } = connection
const source = new DataSource({ type: 'postgres', ...rest, username, poolSize: 1, entities: [new EntitySchema({ name: 'person', columns })] })
await source.initialize()
const seen = []
const run = async (upsert) => {
  await db.exec("TRUNCATE person; INSERT INTO person VALUES (1, 'Ada', 'ada@x'), (2, 'Bo', 'bo@x')")
  await upsert()
  seen.push((await db.query('SELECT * FROM person ORDER BY id')).rows.map(({ name, mail }) => `${name} ${mail}`).join(', '))
}
const a = { id: 1, name: 'Ann' }
const b = { id: 2, mail: 'b@y' }
for (const rows of [[[a], [b]], [[a, b]]]) {
  await run(async () => { for (const some of rows) await knex('person').insert(some).onConflict('id').merge() })
  await run(async () => { for (const some of rows) await source.getRepository('person').upsert(some, ['id']) })
}
await knex.destroy()
await source.destroy()
await server.stop()
await db.close()
console.log(`seen:     one by one: Knex ${seen[0]}; TypeORM ${seen[1]}; together: Knex ${seen[2]}; TypeORM ${seen[3]}`)
if (seen.join('; ') !== 'Ann ada@x, Bo b@y; Ann ada@x, Bo b@y; Ann null, null b@y; Ann null, null b@y') {
  console.log('CHANGED: not kept one by one, and null together')
  process.exitCode = 1
}
EOT
echo "version:  knex $knex, typeorm $typeorm, pg $pg; the server is @electric-sql/pglite $pglite behind its socket server $socket, Node $(node --version)"
echo "expected: Ann ada@x, Bo b@y each time: merge and upsert change what a row names, as they do for each row by itself"
node main.mjs
echo "as stated: two rows are well when they come alone, and delete each other's columns when they come in one batch"
