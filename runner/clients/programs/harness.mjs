// What the programs of Node share.
//   node PROGRAM FOLDER_OF_NODE_MODULES URL
// A program says how far it is (AT 3 10 jobs), KILL when the server is to be killed, which it waits for, and in the end what it
// found (FOUND and JSON); anything else is for a person to read.
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

export const [, , folder, url] = process.argv
export const need = createRequire(folder + '/package.json')

process.on('unhandledRejection', (e) => { console.error(e); process.exit(1) })

export function must(ok, text) { if (!ok) throw new Error(text) }

export function at(done, total, what) { console.log(`AT ${done} ${total} ${what}`) }

export function end(found = {}) {
  console.log('FOUND ' + JSON.stringify(found))
  process.exit(0)
}

// The SQLSTATE of an error, wherever a library has put it.
export function state(e) {
  for (let inner = e; inner; inner = inner.cause ?? inner.parent ?? inner.original ?? inner.driverError) {
    if (/^[0-9A-Z]{5}$/.test(inner.code ?? '')) return inner.code
    if (/^[0-9A-Z]{5}$/.test(inner.originalCode ?? '')) return inner.originalCode
  }
  return undefined
}

export async function rejects(promise, code) {
  try { await promise } catch (e) { must(state(e) === code, `SQLSTATE ${state(e)}, want ${code}: ${e}`); return }
  throw new Error(`no error where SQLSTATE ${code} was due`)
}

// Waits until a condition holds.
export async function until(what, holds) {
  for (let tries = 0; tries < 400; tries++) {
    if (await holds()) return
    await new Promise((done) => setTimeout(done, 50))
  }
  throw new Error('waited for this in vain: ' + what)
}

export const accounts = 8
export const opening = 1000

// A bank: transfers at once from a pool, each a transaction that writes a row of the ledger. What it is given is of one
// library: transfer(from, to, amount, tag) gives the id of the ledger's row as the library says it; ledger() the rows with id
// and tag; total() the sum of all accounts. A library may see serialization failures and deadlocks: those are done again.
export async function bank({ transfer, ledger, total }, { transfers = 80, atOnce = 10, retries = 0 } = {}) {
  const made = new Map()
  let next = 0
  let again = 0
  await Promise.all(Array.from({ length: atOnce }, async () => {
    for (let n = next++; n < transfers; n = next++) {
      const [from, to] = [1 + n % accounts, 1 + (n + 1 + n % (accounts - 1)) % accounts]
      for (let tries = 0; ; tries++) {
        try {
          const id = Number(await transfer(from, to, 1 + n % 7, 'transfer ' + n))
          must(!made.has(id), `two transfers were told the id ${id}`)
          made.set(id, 'transfer ' + n)
          break
        } catch (e) {
          if (tries >= retries || !['40001', '40P01'].includes(state(e))) throw e
          again++
        }
      }
      at(made.size, transfers, 'transfers')
    }
  }))
  const rows = await ledger()
  must(rows.length === transfers, `the ledger has ${rows.length} rows of ${transfers}`)
  for (const r of rows) must(made.get(Number(r.id)) === r.tag, `the row ${r.id} is of ${r.tag}, and ${made.get(Number(r.id))} was told of it`)
  const sum = Number(await total())
  must(sum === accounts * opening, `the accounts have ${sum}, and had ${accounts * opening}`)
  return again
}

// Has the server killed while workers insert, and says what of the acknowledged rows is there afterwards. insert(id) adds a row;
// reconnect, if there is one, comes behind the kill; ids() are those of the rows that are there.
export async function killed({ insert, ids, reconnect = async () => {} }, atOnce) {
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
  const acked = []
  let next = 0
  let asked = false
  let dead = false
  await Promise.all(Array.from({ length: atOnce }, async () => {
    while (!dead) {
      const id = next++
      try {
        await insert(id)
        acked.push(id)
      } catch { dead = true }
      if (acked.length >= 50 && !asked) {
        asked = true
        console.log('KILL')
      }
    }
  }))
  await lines.next()
  await reconnect()
  for (let tries = 0; ; tries++) {
    try {
      const found = new Set(await ids())
      return { acked: acked.length, lost: acked.filter((id) => !found.has(id)).length, invented: [...found].filter((id) => id >= next).length }
    } catch (e) {
      if (tries === 100) throw e
      await new Promise((done) => setTimeout(done, 100))
    }
  }
}
