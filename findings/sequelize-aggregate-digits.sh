#!/usr/bin/env bash
# Sequelize: max() and sum() of BIGINT and DECIMAL give numbers that stand in no row.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=6.37.8
pg=8.23.1
pglite=0.5.14
socket=0.2.17
{ npm init --yes && npm install --no-audit --no-fund "sequelize@$version" "pg@$pg" "@electric-sql/pglite@$pglite" "@electric-sql/pglite-socket@$socket"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'
import { DataTypes, Sequelize } from 'sequelize'

const db = await PGlite.create()
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0, maxConnections: 2 })
await server.start()
const port = Number(server.getServerConn().split(':').pop())
const sequelize = new Sequelize('postgres', 'postgres', '', { dialect: 'postgres', host: '127.0.0.1', port, logging: false, pool: { max: 1 } })
const Entry = sequelize.define('entry', { id: { type: DataTypes.BIGINT, primaryKey: true }, amount: DataTypes.DECIMAL }, { timestamps: false })
await Entry.sync()
await Entry.create({ id: '9007199254740993', amount: '1234567890123456.78' })
const [row] = await Entry.findAll()
const max = await Entry.max('id')
const sum = await Entry.sum('amount')
const found = await Entry.count({ where: { id: max } })
await sequelize.close()
await server.stop()
await db.close()
const seen = JSON.stringify([row.id, row.amount, max, sum, found])
console.log(`seen:     the row: ${row.id}, ${row.amount}; max(id): ${max}; sum(amount): ${sum}; rows with that id: ${found}`)
if (seen !== '["9007199254740993","1234567890123456.78",9007199254740992,1234567890123456.8,0]') {
  console.log('CHANGED: not another id, a rounded sum and no row')
  process.exitCode = 1
}
EOT
echo "version:  sequelize $version, pg $pg; the server is @electric-sql/pglite $pglite behind its socket server $socket, Node $(node --version)"
echo "expected: \"9007199254740993\" and \"1234567890123456.78\", as reading the row gives them: both types are strings in JavaScript, so that no digit is lost"
node main.mjs
echo "as stated: the highest identifier is not found by the row that has it; a sum of amounts is rounded"
