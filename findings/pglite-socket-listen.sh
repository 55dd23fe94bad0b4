#!/usr/bin/env bash
# PGlite's socket server: LISTEN of a client succeeds, and a notification never reaches it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=0.5.14
{ npm init --yes && npm install --no-audit --no-fund "@electric-sql/pglite@$version" @electric-sql/pglite-socket@0.2.17 pg@8.23.1; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'
import pg from 'pg'

const db = await PGlite.create()
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0, maxConnections: 2 })
await server.start()
const port = Number(server.getServerConn().split(':').pop())
const client = async () => {
  const c = new pg.Client({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres' })
  await c.connect()
  return c
}
const listener = await client()
const sender = await client()
const arrived = []
listener.on('notification', (m) => arrived.push(m.payload))
const listen = (await listener.query('LISTEN news')).command
const notify = (await sender.query("NOTIFY news, 'extra'")).command
await listener.query('SELECT 1') // a server may hold notifications until the client's next statement
await new Promise((done) => setTimeout(done, 1000))
await listener.query('SELECT 1')
await listener.end()
await sender.end()
await server.stop()
await db.close()
console.log(`seen:     ${listen} and ${notify} answered; notifications: ${arrived.length}`)
if (listen !== 'LISTEN' || notify !== 'NOTIFY' || arrived.length !== 0) {
  console.log('CHANGED: not LISTEN, NOTIFY and no notification')
  process.exitCode = 1
}
EOT
echo "version:  @electric-sql/pglite $version, @electric-sql/pglite-socket 0.2.17, pg 8.23.1, Node $(node --version)"
echo "expected: the notification, with its payload, at the client that listens"
node main.mjs
echo "as stated: LISTEN and NOTIFY answer as if all were well, and nothing arrives"
