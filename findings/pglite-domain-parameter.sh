#!/usr/bin/env bash
# PGlite: a parameter for a column whose type is a domain over bytea is stored as the text of its numbers.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=0.5.17
{ npm init --yes && npm install --no-audit --no-fund "@electric-sql/pglite@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'

const db = await PGlite.create()
await db.exec('CREATE DOMAIN hash AS bytea; CREATE TABLE file (plain bytea, domain hash)')
const bytes = Uint8Array.of(1, 2, 255)
await db.query('INSERT INTO file VALUES ($1, $2)', [bytes, bytes])
const [row] = (await db.query("SELECT encode(plain, 'hex') AS plain, encode(domain, 'hex') AS domain, convert_from(domain, 'UTF8') AS text FROM file")).rows
await db.close()
console.log(`seen:     bytea \\x${row.plain}, domain over bytea \\x${row.domain}, which is the text "${row.text}"`)
if (row.plain !== '0102ff' || row.text !== '1,2,255') {
  console.log('CHANGED: not 0102ff and the text 1,2,255')
  process.exitCode = 1
}
EOT
echo "version:  @electric-sql/pglite $version, Node $(node --version)"
echo "expected: the bytes 0102ff for both: a domain behaves like its underlying type (manual, 8.18), and an INSERT describes its parameter by the domain"
node main.mjs
echo "as stated: other bytes are stored, without an error; the serializers are looked up by the domain's own type, where there is none"
