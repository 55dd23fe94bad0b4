#!/usr/bin/env bash
# Apache AGE in PGlite: left and right give the whole text, substring nothing, and timestamp() is cut to 32 bits.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=0.5.14
age=0.0.15
{ npm init --yes && npm install --no-audit --no-fund "@electric-sql/pglite@$version" "@electric-sql/pglite-age@$age"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'
import { age } from '@electric-sql/pglite-age'

const db = await PGlite.create({ extensions: { age } })
await db.exec("CREATE EXTENSION age; LOAD 'age'; SET search_path = ag_catalog, public; SELECT create_graph('graph')")
const cypher = async (expression) => (await db.query(`SELECT a::text AS value FROM cypher('graph', $$ RETURN ${expression} $$) AS (a agtype)`)).rows[0].value
const before = Date.now()
const [left, right, middle, now] = [
  await cypher("left('0123456789', 3)"),
  await cypher("right('0123456789', 3)"),
  await cypher("substring('0123456789', 1, 2)"),
  Number(await cypher('timestamp()')),
]
await db.close()
console.log(`seen:     left "${left}", right "${right}", substring "${middle}", timestamp() ${now} at ${before}`)
const cut = now !== before && Math.abs(((before - now) % 2 ** 32)) % (2 ** 32 - 60000) < 60000
if (left !== '0123456789' || right !== left || middle !== '' || before - now < 1e9 || !cut) {
  console.log('CHANGED: not the whole text twice, an empty one and the time without its high bits')
  process.exitCode = 1
}
EOT
echo "version:  @electric-sql/pglite $version, @electric-sql/pglite-age $age, Node $(node --version)"
echo "expected: '012', '789', '12' and the milliseconds since 1970, as openCypher and the documentation of AGE describe the functions"
node main.mjs
echo "as stated: what AGE computes in 64 bits is cut or misread in a WebAssembly of 32, and nothing says so"
