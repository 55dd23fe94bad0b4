#!/usr/bin/env bash
# PGlite: a ParameterStatus message comes again though the parameter's value is the one that was last told.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=0.5.16
{ npm init --yes && npm install --no-audit --no-fund "@electric-sql/pglite@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOF'
import { PGlite } from '@electric-sql/pglite'

const db = await PGlite.create()
// A simple query, as a message.
const query = (sql) => {
  const text = new TextEncoder().encode(sql + '\0')
  const message = new Uint8Array(5 + text.length)
  message[0] = 'Q'.charCodeAt(0)
  new DataView(message.buffer).setInt32(1, 4 + text.length)
  message.set(text, 5)
  return message
}
// The start of a connection, after which parameters are told.
const start = () => {
  const text = new TextEncoder().encode('user\0postgres\0database\0postgres\0\0')
  const message = new Uint8Array(8 + text.length)
  new DataView(message.buffer).setInt32(0, message.length)
  new DataView(message.buffer).setInt32(4, 196608)
  message.set(text, 8)
  return message
}
// The parameters that the answer tells: the messages are read one by one.
const told = async (sql) => {
  const answer = await db.execProtocolRaw(query(sql))
  const found = []
  for (let at = 0; at < answer.length; ) {
    const length = new DataView(answer.buffer, answer.byteOffset).getInt32(at + 1)
    if (answer[at] === 'S'.charCodeAt(0)) {
      found.push(new TextDecoder().decode(answer.subarray(at + 5, at + length)).replace('\0', '='))
    }
    at += 1 + length
  }
  return found
}
await db.execProtocolRaw(start())
await told("SET search_path = 'public'")
const seen = []
for (const sql of ["SET search_path = 'public'", "SET search_path = 'public'"]) {
  seen.push((await told(sql)).join(' ') || 'nothing')
}
await db.close()
console.log(`seen:     ${seen.join('; then ')}`)
if (!seen.every((s) => s === 'search_path=public')) {
  console.log('CHANGED: not told again and again as before')
  process.exitCode = 1
}
EOF
echo "version:  @electric-sql/pglite $version, Node $(node --version)"
echo "expected: setting search_path to the value that it has and that was told tells nothing, as in PostgreSQL 14 and later"
node main.mjs
echo "as stated: each of these statements is answered with a ParameterStatus of the same value"
