#!/usr/bin/env bash
# PGlite: collations of the C library are there, can be made with any name, and sort by code points.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=0.5.17
{ npm init --yes && npm install --no-audit --no-fund "@electric-sql/pglite@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'

const notices = []
const db = await PGlite.create()
const onNotice = (n) => notices.push(n.message)
await db.exec("CREATE COLLATION german (provider = libc, locale = 'de_DE.utf8'); CREATE COLLATION none (provider = libc, locale = 'xx_YY')", { onNotice })
const seen = []
for (const collation of ['en_US', 'german', 'none', 'C']) {
  const { rows } = await db.query(`SELECT string_agg(x, ' ' ORDER BY x COLLATE "${collation}") AS words FROM (VALUES ('Zebra'), ('apfel'), ('Äpfel')) t (x)`)
  seen.push(`${collation}: ${rows[0].words}`)
}
await db.close()
console.log(`seen:     ${seen.join('; ')}; notices: ${notices.length}`)
if (seen.some((s) => !s.endsWith(': Zebra apfel Äpfel')) || notices.length > 0) {
  console.log('CHANGED: not the order of C, without a notice, in all')
  process.exitCode = 1
}
EOT
echo "version:  @electric-sql/pglite $version, Node $(node --version)"
echo "expected: the order of the language (apfel Äpfel Zebra), or an error: CREATE COLLATION takes a locale that the operating system has (manual, 23.2)"
node main.mjs
echo "as stated: an ORDER BY ... COLLATE \"en_US\" that PostgreSQL sorts by the language is answered in another order"
