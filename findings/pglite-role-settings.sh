#!/usr/bin/env bash
# PGlite: settings stored by ALTER ROLE and ALTER DATABASE are never applied.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=0.5.16
{ npm init --yes && npm install --no-audit --no-fund "@electric-sql/pglite@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOF'
import { PGlite } from '@electric-sql/pglite'

const start = () => PGlite.create('./data')
const first = await start()
await first.exec("ALTER ROLE postgres SET work_mem = '7MB'; ALTER DATABASE postgres SET lock_timeout = '9s'")
await first.close()
const db = await start()
const one = async (statement) => Object.values((await db.query(statement)).rows[0])[0]
const seen = [
  await one('SELECT session_user || $$ in $$ || current_database()'),
  await one("SELECT string_agg(s, ' ' ORDER BY s) FROM pg_db_role_setting, unnest(setconfig) s"),
  await one('SHOW work_mem'),
  await one('SHOW lock_timeout'),
]
await db.close()
console.log(`seen:     ${seen[0]}: stored ${seen[1]}; after the next start work_mem is ${seen[2]}, lock_timeout is ${seen[3]}`)
if (seen.join() !== 'postgres in postgres,lock_timeout=9s work_mem=7MB,4MB,0') {
  console.log('CHANGED: not stored and ignored as before')
  process.exitCode = 1
}
EOF
echo "version:  @electric-sql/pglite $version, Node $(node --version)"
echo "expected: the stored settings hold for the next session, as in PostgreSQL: work_mem 7MB, lock_timeout 9s"
node main.mjs
echo "as stated: both statements succeed and are stored in pg_db_role_setting, and the next start ignores them"
