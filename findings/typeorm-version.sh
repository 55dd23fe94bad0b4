#!/usr/bin/env bash
# TypeORM: saving an entity that was read before another's save overwrites it, and sets the version column back.
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
await db.exec('CREATE TABLE account (id int PRIMARY KEY, balance int, version int)')
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0, maxConnections: 2 })
await server.start()
const port = Number(server.getServerConn().split(':').pop())
const columns = { id: { type: 'int', primary: true }, balance: { type: 'int' }, version: { type: 'int', version: true } }
const entities = [new EntitySchema({ name: 'account', columns })]
const source = new DataSource({ type: 'postgres', host: '127.0.0.1', port, username: 'postgres', database: 'postgres', poolSize: 1, entities })
await source.initialize()
const accounts = source.getRepository('account')
const versions = []
const save = async (account, balance) => {
  account.balance = balance
  await accounts.save(account)
  const { rows } = await db.query('SELECT balance, version FROM account')
  versions.push(`${rows[0].balance} in version ${rows[0].version}`)
}
await save({ id: 1 }, 100)
const [one, other] = [await accounts.findOneBy({ id: 1 }), await accounts.findOneBy({ id: 1 })]
await save(one, 110)
await save(one, 120)
await save(other, 90)
await source.destroy()
await server.stop()
await db.close()
console.log(`seen:     after each save: ${versions.join(', ')}`)
if (versions.join() !== '100 in version 1,110 in version 2,120 in version 3,90 in version 1') {
  console.log('CHANGED: not 1, 2, 3 and back to 1')
  process.exitCode = 1
}
EOT
echo "version:  typeorm $version, pg $pg; the server is @electric-sql/pglite $pglite behind its socket server $socket, Node $(node --version)"
echo "expected: an error for the last save, as Sequelize and Hibernate give it, or at least version 4: the column is documented to be incremented at each save"
node main.mjs
echo "as stated: a lost update; and whoever compares versions by himself finds the one that he read, though the row was changed three times"
