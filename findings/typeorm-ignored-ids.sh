#!/usr/bin/env bash
# TypeORM: an insert with orIgnore gives the objects that were passed over the ids of others.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=1.1.1
pg=8.23.1
pglite=0.5.14
socket=0.2.17
{ npm init --yes && npm install --no-audit --no-fund "typeorm@$version" "pg@$pg" "@electric-sql/pglite@$pglite" "@electric-sql/pglite-socket@$socket"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'
import { DataSource, EntitySchema } from 'typeorm'

const db = await PGlite.create()
await db.exec("CREATE TABLE tag (id serial PRIMARY KEY, name text UNIQUE); INSERT INTO tag (name) VALUES ('old')")
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0, maxConnections: 2 })
await server.start()
const port = Number(server.getServerConn().split(':').pop())
const text = (rows) => rows.map(({ id, name }) => `${name} ${id}`).join(', ')
const columns = { id: { type: 'int', primary: true, generated: 'increment' }, name: { type: 'text', unique: true } }
const entities = [new EntitySchema({ name: 'tag', columns })]
const source = new DataSource({ type: 'postgres', host: '127.0.0.1', port, username: 'postgres', database: 'postgres', poolSize: 1, entities })
await source.initialize()
const rows = [{ name: 'old' }, { name: 'new' }]
await source.createQueryBuilder().insert().into('tag').values(rows).orIgnore().execute()
await source.destroy()
const stored = text((await db.query('SELECT id, name FROM tag ORDER BY id')).rows)
await server.stop()
await db.close()
console.log(`seen:     stored: ${stored}; the objects: ${text(rows)}`)
if (stored !== 'old 1, new 3' || text(rows) !== 'old 3, new undefined') {
  console.log('CHANGED: not the id of new for old')
  process.exitCode = 1
}
EOT
echo "version:  typeorm $version, pg $pg; the server is @electric-sql/pglite $pglite behind its socket server $socket, Node $(node --version)"
echo "expected: new with its id, and old with its own or none: PostgreSQL returns rows for what was inserted only, so they cannot be counted off"
node main.mjs
echo "as stated: what is then stored with old's id as its foreign key belongs to new"
