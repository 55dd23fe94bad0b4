// The Node side of the SQL benchmark: PGlite as its users run it, driven by JSON lines on standard input.
//   {"op":"start"}                          a new instance on the prepared data directory
//   {"op":"run","blob":base64,"sizes":[…]}  wire messages, one after the other
// Each is answered by {"ns":…,"bytes":…}: the time it took, and the length of PostgreSQL's answers.
import { createInterface } from 'node:readline'
import { readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

const { dist, dataDirectory, startParams } = JSON.parse(process.argv[2])
const { PGlite } = await import(pathToFileURL(dist + '/index.js').href)
const pgliteWasmModule = await WebAssembly.compile(readFileSync(dist + '/pglite.wasm'))
const fsBundle = new Blob([readFileSync(dist + '/pglite.data')])
const loadDataDir = new Blob([readFileSync(dataDirectory)])

let pg
async function start() {
  const began = process.hrtime.bigint()
  const next = await PGlite.create({ pgliteWasmModule, fsBundle, loadDataDir, startParams })
  const ns = Number(process.hrtime.bigint() - began)
  if (pg) await pg.close()
  pg = next
  return { ns, bytes: 0 }
}

function run({ blob, sizes }) {
  const all = new Uint8Array(Buffer.from(blob, 'base64'))
  const messages = []
  let at = 0
  for (const size of sizes) {
    messages.push(all.slice(at, at + size))
    at += size
  }
  let bytes = 0
  const began = process.hrtime.bigint()
  for (const message of messages) bytes += pg.execProtocolRawSync(message).length
  return { ns: Number(process.hrtime.bigint() - began), bytes }
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line)
  try {
    const answer = request.op === 'start' ? await start() : run(request)
    process.stdout.write(JSON.stringify(answer) + '\n')
  } catch (error) {
    process.stdout.write(JSON.stringify({ error: String(error) }) + '\n')
  }
}
process.exit(0)
