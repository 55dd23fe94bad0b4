#!/usr/bin/env bash
# Knex: whereNot of an object means that no column has its value, orWhereNot of the same object that some column does not.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=3.3.0
{ npm init --yes && npm install --no-audit --no-fund "knex@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import knexOf from 'knex'

const knex = knexOf({ client: 'pg' })
const where = (query) => query.toString().replace('select * from "t" where ', '')
const key = { b: 1, c: 2 }
const seen = [knex('t').whereNot(key), knex('t').where('a', 1).orWhereNot(key), knex('t').where('a', 1).orWhere(key)].map(where)
console.log(`seen:     whereNot: ${seen[0]}; orWhereNot: ${seen[1]}; orWhere: ${seen[2]}`)
if (seen.join() !== 'not "b" = 1 and not "c" = 2,"a" = 1 or not "b" = 1 or not "c" = 2,"a" = 1 or ("b" = 1 and "c" = 2)') {
  console.log('CHANGED: not and for the first, or for the second')
  process.exitCode = 1
}
EOT
echo "version:  knex $version, dialect of PostgreSQL, Node $(node --version)"
echo "expected: not (b = 1 and c = 2) in both, the opposite of what where(key) finds; orWhere puts parentheses around its object"
node main.mjs
echo "as stated: all rows but that of a key of two columns leaves out each row that shares one of them: an archive or a clean-up misses rows"
