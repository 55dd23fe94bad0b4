#!/usr/bin/env bash
# PGlite's pgDump leaves the database in the read-only transaction of pg_dump.
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

const db = await PGlite.create()
await db.exec('CREATE TABLE note (body text)')
const write = async () => {
  try {
    await db.query("INSERT INTO note VALUES ('x')")
    return 'done'
  } catch (error) {
    return `error ${error.code}, ${error.message}`
  }
}
const before = await write()
await pgDump({ pg: db })
const { rows } = await db.query("SELECT current_setting('transaction_isolation') AS isolation, current_setting('row_security') AS security")
const after = await write()
await db.exec('ROLLBACK')
const behind = await write()
await db.close()
console.log(`seen:     INSERT before: ${before}; after: ${after}; behind a ROLLBACK: ${behind}; isolation ${rows[0].isolation}, row_security ${rows[0].security}`)
if (before !== 'done' || !after.startsWith('error 25006') || !behind.startsWith('error 42P01') || rows[0].isolation !== 'repeatable read') {
  console.log('CHANGED: not an error 25006, and 42P01 behind a ROLLBACK')
  process.exitCode = 1
}
EOT
echo "version:  @electric-sql/pglite $version, which the tools name as their peer, @electric-sql/pglite-tools $tools, Node $(node --version)"
echo "expected: a session as before: pg_dump changes nothing, and its transaction ends with its connection; the README names DEALLOCATE ALL and search_path"
node main.mjs
echo "as stated: every write after a backup fails, and a ROLLBACK takes the search_path back to pg_dump's, which is empty"
