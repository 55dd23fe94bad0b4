// Prisma's driver adapter, as Prisma's client calls it: queries, scripts, transactions at once with their isolation levels.
import { accounts, bank, end, must, need, opening, url } from './harness.mjs'

const { PrismaPg } = need('@prisma/adapter-pg')
const factory = new PrismaPg({ connectionString: url, max: 10 })
const db = await factory.connect()
const types = { int: { scalarType: 'int', arity: 'scalar' }, string: { scalarType: 'string', arity: 'scalar' } }
const typed = (args) => args.map((a) => types[typeof a === 'number' ? 'int' : 'string'])
const query = (on, sql, ...args) => on.queryRaw({ sql, args, argTypes: typed(args) })
const execute = (on, sql, ...args) => on.executeRaw({ sql, args, argTypes: typed(args) })

await db.executeScript(`CREATE TABLE account (id serial PRIMARY KEY, balance int NOT NULL);
  CREATE TABLE entry (id serial PRIMARY KEY, tag text UNIQUE, made timestamptz DEFAULT now());`)
for (let i = 0; i < accounts; i++) await execute(db, 'INSERT INTO account (balance) VALUES ($1)', opening)

async function within(level, f) {
  const tx = await db.startTransaction(level)
  try {
    const got = await f(tx)
    await execute(tx, 'COMMIT')
    await tx.commit()
    return got
  } catch (e) {
    await execute(tx, 'ROLLBACK')
    await tx.rollback()
    throw e
  }
}

let failed = 0
await bank({
  transfer: (from, to, amount, tag) => within('SERIALIZABLE', async (tx) => {
    const { rows } = await query(tx, 'SELECT balance FROM account WHERE id = $1', from)
    await execute(tx, 'UPDATE account SET balance = $2 WHERE id = $1', from, Number(rows[0][0]) - amount)
    await execute(tx, 'UPDATE account SET balance = balance + $2 WHERE id = $1', to, amount)
    return (await query(tx, 'INSERT INTO entry (tag) VALUES ($1) RETURNING id', tag)).rows[0][0]
  }).catch((e) => {
    failed++
    throw e
  }),
  ledger: async () => (await query(db, 'SELECT id, tag FROM entry')).rows.map(([id, tag]) => ({ id, tag })),
  total: async () => (await query(db, 'SELECT sum(balance)::int FROM account')).rows[0][0],
}, { retries: 200 })
must(failed > 0, 'serializable transfers at once never failed')

// The kinds of errors that Prisma tells apart.
for (const [sql, kind] of [["INSERT INTO entry (tag) VALUES ('transfer 1')", 'UniqueConstraintViolation'], ['SELECT * FROM nobody', 'TableDoesNotExist'], ["UPDATE account SET balance = NULL", 'NullConstraintViolation']]) {
  try {
    await query(db, sql)
    throw new Error('no error: ' + sql)
  } catch (e) { must(e.cause?.kind === kind, `${sql}: ${e.cause?.kind ?? e.message}, want ${kind}`) }
}
await db.dispose()
end()
