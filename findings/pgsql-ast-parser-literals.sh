#!/usr/bin/env bash
# pgsql-ast-parser: 1e3 is read as 1, INTERVAL '1' DAY as one second: what follows is taken for the column's name.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=12.0.2
pglite=0.5.17
{ npm init --yes && npm install --no-audit --no-fund "pgsql-ast-parser@$version" "@electric-sql/pglite@$pglite"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'
import { parseFirst, toSql } from 'pgsql-ast-parser'

const db = await PGlite.create()
const again = (query) => toSql.statement(parseFirst(query))
const value = async (query) => (await db.query(query, [], { rowMode: 'array', parsers: { 1114: (text) => text } })).rows[0][0]
const seen = []
for (const query of ['SELECT 1e3', 'SELECT 1_000', "SELECT DATE '2024-03-02' - INTERVAL '1' DAY"]) {
  seen.push(`${query} gives ${await value(query)}, and written out again ${await value(again(query))}`)
}
await db.close()
console.log(`seen:     ${seen.join('\n          ')}`)
if (!['1000, and written out again 1', '1000, and written out again 1', '2024-03-01 00:00:00, and written out again 2024-03-01 23:59:59'].every((end, i) => seen[i].endsWith(end))) {
  console.log('CHANGED: not 1, 1 and a second')
  process.exitCode = 1
}
EOT
echo "version:  pgsql-ast-parser $version, over @electric-sql/pglite $pglite, Node $(node --version)"
echo "expected: the same values, or a syntax error, as it gives for 1e3 in a WHERE or in VALUES"
node main.mjs
echo "as stated: 1e3 is 1 AS e3, 1_000 is 1 AS _000, and INTERVAL '1' DAY is '1'::interval AS day: a valid query of something else"
