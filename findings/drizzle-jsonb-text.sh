#!/usr/bin/env bash
# Drizzle: a text in a jsonb column that looks like JSON comes back as what it looks like.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=0.45.4
pglite=0.5.17
{ npm init --yes && npm install --no-audit --no-fund "drizzle-orm@$version" "@electric-sql/pglite@$pglite"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'
import { drizzle } from 'drizzle-orm/pglite'
import { sql } from 'drizzle-orm'
import { integer, jsonb, pgTable } from 'drizzle-orm/pg-core'

const client = await PGlite.create()
await client.exec('CREATE TABLE note (id int, value jsonb)')
const db = drizzle(client)
const note = pgTable('note', { id: integer(), value: jsonb() })
const texts = ['plain', '9007199254740993', '0123', '1e3', 'null', '{"a":1}']
await db.insert(note).values(texts.map((value, id) => ({ id, value })))
const rows = await db.select({ value: note.value, kind: sql`jsonb_typeof(value)` }).from(note).orderBy(note.id)
await client.close()
const seen = JSON.stringify(rows.map((row) => row.value))
console.log(`seen:     ${JSON.stringify(texts)} come back as ${seen}; jsonb_typeof: ${[...new Set(rows.map((row) => row.kind))]}`)
if (seen !== '["plain",9007199254740992,"0123",1000,null,{"a":1}]' || rows.some((row) => row.kind !== 'string')) {
  console.log('CHANGED: not numbers, null and an object for stored strings')
  process.exitCode = 1
}
EOT
echo "version:  drizzle-orm $version, over @electric-sql/pglite $pglite, Node $(node --version)"
echo "expected: the texts that were put in, which are stored as JSON strings: a driver parses the column once, and Drizzle parses strings again"
node main.mjs
echo "as stated: an identifier of digits comes back as a number that may be another one, 'null' as nothing, a pasted document as an object"
