#!/usr/bin/env bash
# PGlite: with a DateStyle whose output puts the day first, day and month of a date change places, without an error.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=0.5.16
{ npm init --yes && npm install --no-audit --no-fund "@electric-sql/pglite@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'

const db = await PGlite.create()
const date = async () => (await db.query("SELECT '2026-03-04'::date AS d")).rows[0].d.toISOString().slice(0, 10)
const iso = await date()
await db.exec("SET datestyle = 'German'")
const german = await date()
await db.close()
console.log(`seen:     ${iso} with ISO, ${german} with German`)
if (iso !== '2026-03-04' || german !== '2026-04-03') {
  console.log('CHANGED: not 2026-03-04 with ISO and 2026-04-03 with German')
  process.exitCode = 1
}
EOT
echo "version:  @electric-sql/pglite $version, Node $(node --version)"
echo "expected: 2026-03-04 both times, or an error: the server reports its DateStyle to the client"
node main.mjs
echo "as stated: dates up to the 12th of a month are silently others"
