#!/usr/bin/env bash
# PGlite: RESET SESSION AUTHORIZATION keeps the role that was set last.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=0.5.16
{ npm init --yes && npm install --no-audit --no-fund "@electric-sql/pglite@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOF'
import { PGlite } from '@electric-sql/pglite'

const db = await PGlite.create()
const user = async () => (await db.query('SELECT session_user AS u')).rows[0].u
const seen = [await user()]
await db.exec('CREATE ROLE other')
for (const statement of ['SET SESSION AUTHORIZATION other', 'RESET SESSION AUTHORIZATION', 'SET SESSION AUTHORIZATION DEFAULT', 'SET SESSION AUTHORIZATION postgres']) {
  await db.exec(statement)
  seen.push(await user())
  console.log(`seen:     ${statement}: session_user is ${seen.at(-1)}`)
}
await db.close()
if (seen.join() !== 'postgres,other,other,other,postgres') {
  console.log(`CHANGED: session_user was ${seen.join(', ')}`)
  process.exitCode = 1
}
EOF
echo "version:  @electric-sql/pglite $version, Node $(node --version)"
echo "expected: after RESET SESSION AUTHORIZATION session_user is again who connected, as in PostgreSQL"
node main.mjs
echo "as stated: the reset succeeds and does nothing; only SET SESSION AUTHORIZATION with the name goes back"
