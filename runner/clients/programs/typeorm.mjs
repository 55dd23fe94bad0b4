// TypeORM: migrations, entities, serializable transactions at once from its pool.
import { accounts, bank, end, must, need, opening, rejects, url } from './harness.mjs'

const { DataSource, EntitySchema, Table } = need('typeorm')

const Account = new EntitySchema({
  name: 'Account', tableName: 'account',
  columns: { id: { type: Number, primary: true, generated: true }, owner: { type: String, unique: true }, balance: { type: Number } },
})
const Entry = new EntitySchema({
  name: 'Entry', tableName: 'entry',
  columns: {
    id: { type: Number, primary: true, generated: true }, tag: { type: String }, extra: { type: 'jsonb', nullable: true },
    made: { type: 'timestamptz', createDate: true },
  },
})
class Tables1700000000000 {
  name = 'Tables1700000000000'
  async up(q) {
    await q.createTable(new Table({
      name: 'account',
      columns: [
        { name: 'id', type: 'serial', isPrimary: true }, { name: 'owner', type: 'varchar', isUnique: true }, { name: 'balance', type: 'int' },
      ],
    }))
    await q.query('CREATE TABLE entry (id serial PRIMARY KEY, tag varchar NOT NULL, made timestamptz NOT NULL DEFAULT now())')
  }
  async down(q) { await q.dropTable('entry'); await q.dropTable('account') }
}
class More1700000001000 {
  name = 'More1700000001000'
  async up(q) { await q.query('ALTER TABLE entry ADD extra jsonb') }
  async down(q) { await q.query('ALTER TABLE entry DROP extra') }
}

const source = new DataSource({ type: 'postgres', url, entities: [Account, Entry], migrations: [Tables1700000000000, More1700000001000], poolSize: 10 })
await source.initialize()
must((await source.runMigrations({ transaction: 'each' })).length === 2, 'migrations')
await source.undoLastMigration()
must((await source.runMigrations()).length === 1, 'a migration done again')
must((await source.driver.createSchemaBuilder().log()).upQueries.length === 0, 'TypeORM finds its tables otherwise than its migrations made them')

const users = source.getRepository(Account)
await users.save(Array.from({ length: accounts }, (_, i) => ({ owner: 'owner ' + i, balance: opening })))
await rejects(users.insert({ owner: 'owner 0', balance: 1 }), '23505')

await bank({
  transfer: (from, to, amount, tag) => source.transaction('SERIALIZABLE', async (m) => {
    const a = await m.findOneByOrFail(Account, { id: from })
    const b = await m.findOneByOrFail(Account, { id: to })
    a.balance -= amount
    b.balance += amount
    await m.save(Account, [a, b])
    return (await m.save(Entry, { tag, extra: { from, to } })).id
  }),
  ledger: () => source.getRepository(Entry).find(),
  total: () => users.sum('balance'),
}, { retries: 200 })

// A pessimistic lock holds until the end of its transaction.
await Promise.all(Array.from({ length: 20 }, () => source.transaction(async (m) => {
  const a = await m.findOneOrFail(Account, { where: { id: 1 }, lock: { mode: 'pessimistic_write' } })
  await m.update(Account, { id: 1 }, { balance: a.balance + 1 })
})))
must(Number(await users.sum('balance')) === accounts * opening + 20, 'increments were lost')

// A stream reads by a cursor of its own while others write.
const runner = source.createQueryRunner()
await runner.startTransaction('REPEATABLE READ')
const before = await runner.manager.count(Entry)
await source.getRepository(Entry).insert({ tag: 'meanwhile' })
must((await runner.manager.count(Entry)) === before, 'a repeatable read saw what came later')
await runner.commitTransaction()
must((await runner.manager.count(Entry)) === before + 1, 'what came meanwhile is not there')
await runner.release()
await source.destroy()
end()
