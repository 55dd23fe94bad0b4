#!/usr/bin/env bash
# Drizzle: rows that a relational query gives under `with` go through JSON: their bigint and numeric columns lose digits.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=0.45.4
pglite=0.5.17
{ npm init --yes && npm install --no-audit --no-fund "drizzle-orm@$version" "@electric-sql/pglite@$pglite"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'
import { relations } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/pglite'
import { bigint, numeric, pgTable } from 'drizzle-orm/pg-core'

const client = await PGlite.create()
await client.exec('CREATE TABLE owner (id bigint); CREATE TABLE entry (id bigint, owner bigint, amount numeric)')
await client.exec('INSERT INTO owner VALUES (1); INSERT INTO entry VALUES (9007199254740993, 1, 1234567890123456.70)')
const owner = pgTable('owner', { id: bigint({ mode: 'bigint' }).primaryKey() })
const entry = pgTable('entry', { id: bigint({ mode: 'bigint' }).primaryKey(), owner: bigint({ mode: 'bigint' }), amount: numeric() })
const owners = relations(owner, ({ many }) => ({ entries: many(entry) }))
const entries = relations(entry, ({ one }) => ({ of: one(owner, { fields: [entry.owner], references: [owner.id] }) }))
const db = drizzle(client, { schema: { owner, entry, owners, entries } })
const text = (row) => `${row.id} ${row.amount}`
const top = text((await db.query.entry.findMany())[0])
const nested = text((await db.query.owner.findFirst({ with: { entries: true } })).entries[0])
await client.close()
console.log(`seen:     the row by itself: ${top}; the same row under its owner: ${nested}`)
if (top !== '9007199254740993 1234567890123456.70' || nested !== '9007199254740992 1234567890123456.8') {
  console.log('CHANGED: not the digits of the row by itself, and other ones under its owner')
  process.exitCode = 1
}
EOT
echo "version:  drizzle-orm $version, over @electric-sql/pglite $pglite, Node $(node --version)"
echo "expected: the same twice: mode 'bigint' and numeric are there so that no digit is lost, and the types of both rows are the same"
node main.mjs
echo "as stated: an identifier read through a relation is that of another row, though it is a BigInt; an amount is rounded, though it is a string"
