#!/usr/bin/env bash
# node-sql-parser: a backslash in a literal of PostgreSQL becomes a line feed or a tab when the query is written out again.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=5.4.0
pglite=0.5.17
{ npm init --yes && npm install --no-audit --no-fund "node-sql-parser@$version" "@electric-sql/pglite@$pglite"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'
import parser from 'node-sql-parser'

const db = await PGlite.create()
const database = 'postgresql'
const { Parser } = parser
const again = (query) => new Parser().sqlify(new Parser().astify(query, { database }), { database })
const value = async (query) => JSON.stringify((await db.query(query)).rows[0].v)
const query = String.raw`SELECT 'C:\new\data\table' AS v`
const seen = [await value(query), await value(again(query))]
await db.close()
console.log(`seen:     the query gives ${seen[0]}, and written out again ${seen[1]}`)
if (seen.join() !== String.raw`"C:\\new\\data\\table","C:\new\\data\table"`) {
  console.log('CHANGED: not a line feed and a tab for two of three backslashes')
  process.exitCode = 1
}
EOT
echo "version:  node-sql-parser $version, over @electric-sql/pglite $pglite, Node $(node --version)"
echo "expected: the same text: in PostgreSQL, a backslash in '...' is a backslash (standard_conforming_strings is on; E'...' has escapes)"
node main.mjs
echo "as stated: a gateway that parses queries, to add a condition or a limit, changes what they store"
