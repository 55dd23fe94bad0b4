#!/usr/bin/env bash
# Drizzle: migrate passes over a migration that was generated before the last applied one, without a word.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=0.45.4
pglite=0.5.17
{ npm init --yes && npm install --no-audit --no-fund "drizzle-orm@$version" "@electric-sql/pglite@$pglite"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { mkdirSync, writeFileSync } from 'node:fs'
import { PGlite } from '@electric-sql/pglite'
import { drizzle } from 'drizzle-orm/pglite'
import { migrate } from 'drizzle-orm/pglite/migrator'

const client = await PGlite.create()
const db = drizzle(client)
// run applies the migrations of a folder as drizzle-kit writes it: `when` is the time a file was generated at.
const run = async (folder, whens) => {
  mkdirSync(`${folder}/meta`, { recursive: true })
  const entries = whens.map((when, idx) => ({ idx, version: '7', when, tag: `000${idx}_t${when}`, breakpoints: true }))
  for (const { tag, when } of entries) writeFileSync(`${folder}/${tag}.sql`, `CREATE TABLE t${when} (id int)`)
  writeFileSync(`${folder}/meta/_journal.json`, JSON.stringify({ version: '7', dialect: 'postgresql', entries }))
  await migrate(db, { migrationsFolder: folder })
  return (await client.query("SELECT relname FROM pg_class WHERE relname IN ('t1000', 't2000', 't3000') ORDER BY 1")).rows.map((row) => row.relname)
}
const first = await run('one-branch', [1000, 3000])
const second = await run('both-branches', [1000, 2000, 3000])
const { rows } = await client.query('SELECT count(*)::int AS n FROM drizzle.__drizzle_migrations')
await client.close()
console.log(`seen:     tables after the migrations of 1000 and 3000: ${first}; after the merge of that of 2000: ${second}; recorded: ${rows[0].n}`)
if (first.join() !== 't1000,t3000' || second.join() !== 't1000,t3000' || rows[0].n !== 2) {
  console.log('CHANGED: not the same two tables after both')
  process.exitCode = 1
}
EOT
echo "version:  drizzle-orm $version, over @electric-sql/pglite $pglite, Node $(node --version)"
echo "expected: t2000 is made, or an error tells of it, as with goose: the migrations that were applied are recorded, each with its hash"
node main.mjs
echo "as stated: of two branches, the migration of the one that was begun first and merged last runs on new databases and never on those in use"
