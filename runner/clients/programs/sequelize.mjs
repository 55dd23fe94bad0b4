// Sequelize: its tables and changes of them, managed transactions at once from its pool.
import { accounts, bank, end, must, need, opening, rejects, url } from './harness.mjs'

const { DataTypes, Op, Sequelize, Transaction } = need('sequelize')
const db = new Sequelize(url, { logging: false, pool: { max: 10, min: 0, acquire: 60000 } })
await db.authenticate()

const Account = db.define('account', { owner: { type: DataTypes.STRING, unique: true }, balance: DataTypes.INTEGER }, { timestamps: false })
const Entry = db.define('entry', { tag: DataTypes.STRING, kind: DataTypes.ENUM('transfer', 'fee') })
await db.sync({ force: true })
await db.getQueryInterface().addColumn('entries', 'extra', { type: DataTypes.JSONB })
await db.getQueryInterface().addIndex('entries', ['tag'])
await db.sync({ alter: true })
await Account.bulkCreate(Array.from({ length: accounts }, (_, i) => ({ owner: 'owner ' + i, balance: opening })))
await rejects(Account.create({ owner: 'owner 0', balance: 1 }), '23505')

const again = await bank({
  transfer: (from, to, amount, tag) => db.transaction(async (t) => {
    const rows = await Account.findAll({ where: { id: { [Op.in]: [from, to] } }, order: ['id'], lock: t.LOCK.UPDATE, transaction: t })
    for (const r of rows) await r.update({ balance: r.balance + (r.id === from ? -amount : amount) }, { transaction: t })
    return (await Entry.create({ tag, kind: 'transfer' }, { transaction: t })).id
  }),
  ledger: () => Entry.findAll(),
  total: () => Account.sum('balance'),
})
must(again === 0, `${again} transfers were done again, though they lock in one order`)

// Repeatable reads that write the same row: all but one of those at once are told to try again.
let failures = 0
await Promise.all(Array.from({ length: 10 }, async () => {
  for (;;) {
    try {
      await db.transaction({ isolationLevel: Transaction.ISOLATION_LEVELS.REPEATABLE_READ }, async (t) => {
        const a = await Account.findByPk(1, { transaction: t })
        await a.update({ balance: a.balance + 1 }, { transaction: t })
      })
      return
    } catch (e) {
      must((e.parent ?? e).code === '40001', e.message)
      failures++
    }
  }
}))
must(failures > 0, 'transactions at once that read and write one row never failed')
must(Number(await Account.sum('balance')) === accounts * opening + 10, 'increments were lost')

// findOrCreate makes a function of the session's own where it cannot do otherwise, and is safe beside others.
const found = await Promise.all(Array.from({ length: 10 }, () => Account.findOrCreate({ where: { owner: 'new' }, defaults: { balance: 0 } })))
must(found.filter(([, created]) => created).length === 1, 'an owner was made more than once')
await db.close()
end()
