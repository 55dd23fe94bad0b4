#!/usr/bin/env bash
# PGlite's pgDump: a dump in one of pg_dump's binary formats is cut to a few bytes, without an error.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=0.5.8
tools=0.4.8
{ npm init --yes && npm install --no-audit --no-fund "@electric-sql/pglite@$version" "@electric-sql/pglite-tools@$tools"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'
import { pgDump } from '@electric-sql/pglite-tools/pg_dump'

const seen = []
for (const args of [[], ['--format=custom'], ['--format=tar']]) {
  const db = await PGlite.create()
  await db.exec("CREATE TABLE note (body text); INSERT INTO note SELECT 'text ' || i FROM generate_series(1, 1000) i")
  const file = await pgDump({ pg: db, args })
  seen.push(`${args[0] ?? 'plain'}: ${file.size} bytes`)
  await db.close()
}
console.log(`seen:     ${seen.join(', ')}`)
const sizes = seen.map((s) => Number(s.match(/(\d+) bytes/)[1]))
if (sizes[0] < 40000 || sizes[1] > 16 || sizes[2] > 16) {
  console.log('CHANGED: not a full plain dump beside archives of a few bytes')
  process.exitCode = 1
}
EOT
echo "version:  @electric-sql/pglite $version, which the tools name as their peer, @electric-sql/pglite-tools $tools, Node $(node --version)"
echo "expected: an archive of some kilobytes, or an error: the README passes args on to pg_dump and names no format that is left out"
node main.mjs
echo "as stated: the file is read as text up to its first zero byte: a backup that holds nothing"
