#!/usr/bin/env bash
# PGlite: statement_timeout is accepted and shown, and ends no statement.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=0.5.16
{ npm init --yes && npm install --no-audit --no-fund "@electric-sql/pglite@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'

const db = await PGlite.create()
await db.exec("SET statement_timeout = '200ms'")
const { rows } = await db.query('SHOW statement_timeout')
const start = performance.now()
let seen
try {
  await db.query('SELECT pg_sleep(1)')
  seen = performance.now() - start >= 900 ? 'slept for the whole second' : 'ended early without an error'
} catch (error) {
  seen = `error ${error.code}`
}
await db.close()
console.log(`seen:     statement_timeout ${rows[0].statement_timeout}; pg_sleep(1) ${seen}`)
if (rows[0].statement_timeout !== '200ms' || seen !== 'slept for the whole second') {
  console.log('CHANGED: not a limit of 200ms and a sleep of a second')
  process.exitCode = 1
}
EOT
echo "version:  @electric-sql/pglite $version, Node $(node --version)"
echo "expected: error 57014 (query_canceled) after 200 ms"
node main.mjs
echo "as stated: a limit that was set is none, and nothing says so"
