#!/usr/bin/env bash
# PGlite: a date before Christ, which PostgreSQL has, comes back as an Invalid Date, without an error.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=0.5.16
{ npm init --yes && npm install --no-audit --no-fund "@electric-sql/pglite@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'

const db = await PGlite.create()
const { rows } = await db.query("SELECT d, d::text AS text, extract(year FROM d)::int AS year FROM (SELECT '0044-03-15 BC'::date) t (d)")
await db.close()
const seen = `${String(rows[0].d)}; as text: ${rows[0].text}; year ${rows[0].year}`
console.log(`seen:     ${seen}`)
if (seen !== 'Invalid Date; as text: 0044-03-15 BC; year -44') {
  console.log('CHANGED: not an Invalid Date beside a sound text')
  process.exitCode = 1
}
EOT
echo "version:  @electric-sql/pglite $version, Node $(node --version)"
echo "expected: a Date of the year -43 in JavaScript's count (as the result 'infinity', for which there is a rule, becomes Infinity), or an error"
node main.mjs
echo "as stated: the value is lost in the client, and nothing says so"
