#!/usr/bin/env bash
# PGlite live.incrementalQuery: with a key of type timestamptz, date or bytea the result has one row.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=0.5.17
{ npm init --yes && npm install --no-audit --no-fund "@electric-sql/pglite@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'
import { live } from '@electric-sql/pglite/live'

const db = await PGlite.create({ extensions: { live } })
await db.exec(`
  CREATE TABLE item (number int PRIMARY KEY, at timestamptz UNIQUE NOT NULL, day date UNIQUE NOT NULL, hash bytea UNIQUE NOT NULL);
  INSERT INTO item SELECT i, timestamptz '2026-01-01' + i * interval '1 day', date '2026-01-01' + i, int4send(i) FROM generate_series(1, 3) i`)
const seen = []
for (const key of ['number', 'at', 'day', 'hash']) {
  const { initialResults } = await db.live.incrementalQuery('SELECT * FROM item ORDER BY number', [], key)
  seen.push(`${key} ${initialResults.rows.length}`)
}
await db.close()
console.log(`seen:     rows by key: ${seen.join(', ')}`)
if (seen.join() !== 'number 3,at 1,day 1,hash 1') {
  console.log('CHANGED: not 3 rows by the number and one by each of the others')
  process.exitCode = 1
}
EOT
echo "version:  @electric-sql/pglite $version, Node $(node --version)"
echo "expected: 3 rows with each: the documentation asks for the name of a column to key off, such as a primary key, and restricts no types"
node main.mjs
echo "as stated: keys that become objects in JavaScript are compared by identity, so the chain of rows breaks behind the first"
