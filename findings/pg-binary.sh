#!/usr/bin/env bash
# node-postgres: with binary: true numbers and times come back as other ones.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=8.23.1
pglite=0.5.14
socket=0.2.17
{ npm init --yes && npm install --no-audit --no-fund "pg@$version" "@electric-sql/pglite@$pglite" "@electric-sql/pglite-socket@$socket"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'
import pg from 'pg'

const db = await PGlite.create()
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0, maxConnections: 2 })
await server.start()
const client = new pg.Client({ host: '127.0.0.1', port: Number(server.getServerConn().split(':').pop()), user: 'postgres', database: 'postgres' })
await client.connect()
const text = "SELECT 100::int8 AS a, -5::int8 AS b, 1.5::float8 AS c, 0.1::float8 AS d, -0.05::numeric AS e, '2020-01-02 03:04:05+00'::timestamptz AS f WHERE $1"
const values = async (binary) => {
  const { a, b, c, d, e, f } = (await client.query({ text, values: [true], binary })).rows[0]
  return `${a} ${b} ${c} ${d} ${e} ${f.toISOString()}`
}
const [plain, binary] = [await values(false), await values(true)]
await client.end()
await server.stop()
await db.close()
console.log(`seen:     ${plain} as text; ${binary} with binary: true`)
const [a, b, c, d, e, f] = binary.split(' ')
if (plain !== '100 -5 1.5 0.1 -0.05 2020-01-02T03:04:05.000Z' || a !== '100' || b === '-5' || c === '1.5' || d === '0.1' || e === '-0.05' || f === '2020-01-02T03:04:05.000Z') {
  console.log('CHANGED: not 100 alone right with binary: true')
  process.exitCode = 1
}
EOT
echo "version:  pg $version; the server is @electric-sql/pglite $pglite behind its socket server $socket, Node $(node --version)"
echo "expected: the same values: binary is an option of Client and of a query, and pg has parsers for these types"
node main.mjs
echo "as stated: each byte above 127 is replaced on its way, as in a text that is not UTF-8; small positive integers are right, so a first try looks well"
