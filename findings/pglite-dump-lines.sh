#!/usr/bin/env bash
# PGlite's pgDump: a line of data that begins with \restrict is left out of the dump.
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

const text = 'first\n\\restrict on\nlast'
const db = await PGlite.create()
await db.exec('CREATE TABLE note (body text)')
await db.query('INSERT INTO note VALUES ($1)', [text])
const dump = await (await pgDump({ pg: db })).text()
await db.close()
const restored = await PGlite.create()
await restored.exec(dump)
const { rows } = await restored.query('SELECT body FROM public.note')
await restored.close()
console.log(`seen:     ${JSON.stringify(text)} is restored as ${JSON.stringify(rows[0].body)}`)
if (rows[0].body !== 'first\nlast') {
  console.log('CHANGED: not the text without its second line')
  process.exitCode = 1
}
EOT
echo "version:  @electric-sql/pglite $version, which the tools name as their peer, @electric-sql/pglite-tools $tools, Node $(node --version)"
echo "expected: the same text after a dump and a restore; pg_dump writes it as it is, for a backslash has no meaning in its literals"
node main.mjs
echo "as stated: removing psql commands from the output takes lines out of literals too: a table of stored SQL dumps comes back changed"
