// Drizzle: its migrator, and transactions at once from a pool of node-postgres.
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { accounts, bank, end, must, need, opening, rejects, url } from './harness.mjs'

const { Pool } = need('pg')
const { drizzle } = need('drizzle-orm/node-postgres')
const { migrate } = need('drizzle-orm/node-postgres/migrator')
const { integer, jsonb, pgTable, serial, text, timestamp } = need('drizzle-orm/pg-core')
const { asc, eq, inArray, sql, sum } = need('drizzle-orm')

const account = pgTable('account', { id: serial('id').primaryKey(), owner: text('owner').notNull().unique(), balance: integer('balance').notNull() })
const entry = pgTable('entry', {
  id: serial('id').primaryKey(), tag: text('tag').notNull(), amount: integer('amount'), extra: jsonb('extra'), made: timestamp('made').defaultNow(),
})

// What drizzle-kit would write.
const migrations = join(dirname(process.argv[1]), 'drizzle')
mkdirSync(join(migrations, 'meta'), { recursive: true })
writeFileSync(join(migrations, 'meta', '_journal.json'), JSON.stringify({
  version: '7', dialect: 'postgresql',
  entries: [{ idx: 0, version: '7', when: 1700000000000, tag: '0000_tables', breakpoints: true }, { idx: 1, version: '7', when: 1700000001000, tag: '0001_more', breakpoints: true }],
}))
writeFileSync(join(migrations, '0000_tables.sql'), `CREATE TABLE "account" ("id" serial PRIMARY KEY, "owner" text NOT NULL, "balance" integer NOT NULL, CONSTRAINT "account_owner_unique" UNIQUE("owner"));
--> statement-breakpoint
CREATE TABLE "entry" ("id" serial PRIMARY KEY, "tag" text NOT NULL, "amount" integer);`)
writeFileSync(join(migrations, '0001_more.sql'), `ALTER TABLE "entry" ADD COLUMN "extra" jsonb;
--> statement-breakpoint
ALTER TABLE "entry" ADD COLUMN "made" timestamp DEFAULT now();`)

const pool = new Pool({ connectionString: url, max: 10 })
const db = drizzle(pool)
await migrate(db, { migrationsFolder: migrations })
await migrate(db, { migrationsFolder: migrations }) // there is nothing more to do
await db.insert(account).values(Array.from({ length: accounts }, (_, i) => ({ owner: 'owner ' + i, balance: opening })))
await rejects(db.insert(account).values({ owner: 'owner 0', balance: 1 }), '23505')

const again = await bank({
  transfer: (from, to, amount, tag) => db.transaction(async (tx) => {
    // Locked in one order, so that nobody waits for each other.
    const rows = await tx.select().from(account).where(inArray(account.id, [from, to])).orderBy(asc(account.id)).for('update')
    for (const r of rows) {
      await tx.update(account).set({ balance: r.balance + (r.id === from ? -amount : amount) }).where(eq(account.id, r.id))
    }
    const [made] = await tx.insert(entry).values({ tag, amount, extra: { from, to } }).returning({ id: entry.id })
    return made.id
  }),
  ledger: () => db.select({ id: entry.id, tag: entry.tag }).from(entry),
  total: async () => (await db.select({ n: sum(account.balance) }).from(account))[0].n,
})
must(again === 0, `${again} transfers were done again, though they lock in one order`)

// A nested transaction is a savepoint, and what is rolled back is gone.
await db.transaction(async (tx) => {
  await tx.insert(entry).values({ tag: 'kept' })
  await tx.transaction(async (inner) => {
    await inner.insert(entry).values({ tag: 'gone' })
    inner.rollback()
  }).catch(() => {})
})
const tags = (await db.select({ tag: entry.tag }).from(entry).where(inArray(entry.tag, ['kept', 'gone']))).map((r) => r.tag)
must(tags.join() === 'kept', 'a savepoint: ' + tags)

// What a transaction sets for itself, such as a tenant, nobody else sees.
await Promise.all(Array.from({ length: 20 }, (_, i) => db.transaction(async (tx) => {
  await tx.execute(sql`SELECT set_config('app.tenant', ${String(i)}, true)`)
  const { rows } = await tx.execute(sql`SELECT current_setting('app.tenant') AS tenant, pg_sleep(0.002)`)
  must(rows[0].tenant === String(i), `a tenant ${rows[0].tenant}, want ${i}`)
})))
const { rows } = await db.execute(sql`SELECT current_setting('app.tenant', true) AS tenant`)
must(!rows[0].tenant, 'a tenant was left: ' + rows[0].tenant)
await pool.end()
end()
