#!/usr/bin/env bash
# PGlite: with bytea_output = escape, one of two values that PostgreSQL has for it, a bytea comes back as other bytes.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=0.5.16
{ npm init --yes && npm install --no-audit --no-fund "@electric-sql/pglite@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'

const db = await PGlite.create()
const bytes = async () => {
  const { rows } = await db.query("SELECT '\\xdeadbeef'::bytea AS data, encode('\\xdeadbeef', 'hex') AS hex")
  return `${Buffer.from(rows[0].data).toString('hex')} for ${rows[0].hex}`
}
const hex = await bytes()
await db.exec("SET bytea_output = 'escape'")
const escape = await bytes()
await db.close()
console.log(`seen:     ${hex} as hex, ${escape} as escape`)
if (hex !== 'deadbeef for deadbeef' || escape !== '36005500760057 for deadbeef') {
  console.log('CHANGED: not the right bytes with hex and 36005500760057 with escape')
  process.exitCode = 1
}
EOT
echo "version:  @electric-sql/pglite $version, Node $(node --version)"
echo "expected: de ad be ef both times, or an error"
node main.mjs
echo "as stated: each pair of characters of the text is read as a hexadecimal digit pair, whatever it is; nothing says so"
