#!/usr/bin/env bash
# PGlite live.query with parameters: %s of a LIKE pattern is replaced by the first parameter.
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
await db.exec("CREATE TABLE pet (id int PRIMARY KEY, name text); INSERT INTO pet VALUES (7, 'cats'), (8, 'dog'), (9, '5')")
const statement = "SELECT name FROM pet WHERE name LIKE '%s' AND id > $1"
const names = ({ rows }) => rows.map((row) => row.name).join(' ')
const query = names(await db.query(statement, [5]))
const liveQuery = names((await db.live.query(statement, [5])).initialResults)
let other
try {
  other = names((await db.live.query("SELECT name FROM pet WHERE name LIKE 'c%' AND id > $1", [5])).initialResults)
} catch (error) {
  other = `error ${error.code}, ${error.message}`
}
await db.close()
console.log(`seen:     query: ${query}; live.query: ${liveQuery}; live.query of LIKE 'c%': ${other}`)
if (query !== 'cats' || liveQuery !== '5' || !other.startsWith('error 22023')) {
  console.log('CHANGED: not cats, 5 and an error of format()')
  process.exitCode = 1
}
EOT
echo "version:  @electric-sql/pglite $version, Node $(node --version)"
echo "expected: cats from both: the documentation calls live.query very similar to a standard query, and to LIKE only % and _ are special"
node main.mjs
echo "as stated: the query text is used as a format string: where a pattern happens to be a valid directive, other rows come back"
