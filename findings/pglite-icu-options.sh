#!/usr/bin/env bash
# PGlite without icuDataDir: options of ICU collations are accepted without a warning and not applied.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=0.5.16
{ npm init --yes && npm install --no-audit --no-fund "@electric-sql/pglite@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOF'
import { PGlite } from '@electric-sql/pglite'

const notices = []
const onNotice = (n) => notices.push(n.message)
const db = await PGlite.create()
await db.exec("CREATE COLLATION digits (provider = icu, locale = 'und-u-kn')", { onNotice })
await db.exec("CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)", { onNotice })
const one = async (statement) => String(Object.values((await db.query(statement)).rows[0])[0])
const seen = [
  await one("SELECT string_agg(x, ' < ' ORDER BY x COLLATE digits) FROM (VALUES ('a10'), ('a2')) t (x)"),
  await one("SELECT 'a' = 'A' COLLATE nocase"),
  String(notices.length),
]
await db.close()
console.log(`seen:     und-u-kn: ${seen[0]}; und-u-ks-level2: a = A is ${seen[1]}; notices: ${seen[2]}`)
if (seen.join() !== 'a10 < a2,false,0') {
  console.log(`CHANGED: not the order of the root without a notice (${notices.join('; ')})`)
  process.exitCode = 1
}
EOF
echo "version:  @electric-sql/pglite $version, Node $(node --version)"
echo "expected: the options hold (a2 before a10 with kn, a = A at level 2), or CREATE COLLATION refuses them"
node main.mjs
echo "as stated: both collations are created without a notice and compare like the root"
