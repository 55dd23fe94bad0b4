#!/usr/bin/env bash
# PGlite: a Date that is written to a timestamp column comes back as another moment, unless the process runs in UTC.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=0.5.17
{ npm init --yes && npm install --no-audit --no-fund "@electric-sql/pglite@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'

const db = await PGlite.create()
await db.exec('CREATE TABLE note (plain timestamp, zoned timestamptz)')
const moment = new Date('2026-01-01T12:00:00Z')
await db.query('INSERT INTO note VALUES ($1, $2)', [moment, moment])
const read = async () => (await db.query('SELECT plain, zoned FROM note')).rows[0]
const first = await read()
await db.query('UPDATE note SET plain = $1, zoned = $2', [first.plain, first.zoned]) // what was read, unchanged
const second = await read()
await db.close()
const seen = [first.plain, first.zoned, second.plain, second.zoned].map((date) => date.toISOString())
console.log(`seen:     timestamp ${seen[0]}, timestamptz ${seen[1]}; written back and read again: ${seen[2]}, ${seen[3]}`)
if (seen.join() !== '2026-01-01T17:00:00.000Z,2026-01-01T12:00:00.000Z,2026-01-01T22:00:00.000Z,2026-01-01T12:00:00.000Z') {
  console.log('CHANGED: not five hours later with each round, and the same in timestamptz')
  process.exitCode = 1
}
EOT
echo "version:  @electric-sql/pglite $version, Node $(node --version)"
echo "expected: 2026-01-01T12:00:00.000Z from both columns: what was put in; node-postgres, for one, writes and reads such a column by the same zone"
TZ=America/New_York node main.mjs
echo "as stated: it is written as the clock of UTC and read as the clock of the process: five hours later, once for each round"
