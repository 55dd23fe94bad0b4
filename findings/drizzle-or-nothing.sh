#!/usr/bin/env bash
# Drizzle: or() of no conditions is no condition, so a DELETE of "any of these" with an empty list deletes every row.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=0.45.4
pglite=0.5.17
{ npm init --yes && npm install --no-audit --no-fund "drizzle-orm@$version" "@electric-sql/pglite@$pglite"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'
import { eq, inArray, or } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/pglite'
import { integer, pgTable } from 'drizzle-orm/pg-core'

const client = await PGlite.create()
await client.exec('CREATE TABLE note (id int); INSERT INTO note VALUES (1), (2), (3)')
const db = drizzle(client)
const note = pgTable('note', { id: integer() })
const deleted = async (ids, where) => (await db.delete(note).where(where(ids)).returning()).length
const seen = [
  await deleted([], (ids) => inArray(note.id, ids)),
  await deleted([3], (ids) => or(...ids.map((id) => eq(note.id, id)))),
  await deleted([], (ids) => or(...ids.map((id) => eq(note.id, id)))),
]
await client.close()
console.log(`seen:     rows deleted: inArray of no ids: ${seen[0]}; or() of one condition: ${seen[1]}; or() of none: ${seen[2]}`)
if (seen.join() !== '0,1,2') {
  console.log('CHANGED: not 0, 1, and all that are left')
  process.exitCode = 1
}
EOT
echo "version:  drizzle-orm $version, over @electric-sql/pglite $pglite, Node $(node --version)"
echo "expected: 0 for both empty lists: none of no conditions holds, as inArray() says false, Kysely's or([]) is false and squirrel's Or{} is (1=0)"
node main.mjs
echo "as stated: the same list, written with or() since a key has two columns, empties the table when there was nothing to delete"
