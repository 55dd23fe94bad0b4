// Knex (an ORM's query builder, with migrations) against a server.
//   node knex.mjs FOLDER_OF_NODE_MODULES URL
import { end, killed, must, need, rejects, url } from './harness.mjs'

const migrations = {
  list: [
    { name: '1_tables', up: (k) => k.schema.createTable('author', (t) => { t.increments('id'); t.string('name').unique() }).createTable('book', (t) => { t.increments('id'); t.integer('author_id').references('author.id'); t.string('title'); t.jsonb('extra') }), down: (k) => k.schema.dropTable('book').dropTable('author') },
    { name: '2_more', up: (k) => k.schema.alterTable('book', (t) => { t.integer('pages').defaultTo(0); t.index(['title']) }), down: (k) => k.schema.alterTable('book', (t) => t.dropColumn('pages')) },
  ],
  getMigrations() { return Promise.resolve(this.list) },
  getMigrationName(m) { return m.name },
  getMigration(m) { return m },
}
const open = () => need('knex')({ client: 'pg', connection: url, pool: { min: 0, max: 10 } })
let k = open()
await k.migrate.latest({ migrationSource: migrations })
must((await k.migrate.currentVersion({ migrationSource: migrations })) !== 'none', 'migrations')
const [author] = await k('author').insert({ name: 'Ada' }).returning('*')
await k('book').insert([{ author_id: author.id, title: 'One', extra: JSON.stringify({ a: 1 }) }, { author_id: author.id, title: 'Two' }])
const joined = await k('book').join('author', 'author.id', 'book.author_id').select('title', 'name', 'extra', 'pages').orderBy('title')
must(joined.length === 2 && joined[0].extra.a === 1 && joined[0].pages === 0, 'a join: ' + JSON.stringify(joined))
await k('book').where({ title: 'Two' }).update({ pages: 7 })
must((await k('book').sum('pages as n'))[0].n === '7', 'update')
await rejects(k('author').insert({ name: 'Ada' }), '23505')
try {
  await k.transaction(async (t) => { await t('book').del(); throw new Error('back') })
} catch (e) { must(e.message === 'back', e.message) }
must((await k('book').count('* as n'))[0].n === '2', 'rollback')
await Promise.all(Array.from({ length: 20 }, (_, i) => k.transaction(async (t) => {
  const [b] = await t('book').where({ title: 'One' }).forUpdate()
  await t('book').where({ id: b.id }).update({ pages: b.pages + 1 })
})))
must((await k('book').where({ title: 'One' }))[0].pages === 20, 'increments were lost')
await k.migrate.rollback({ migrationSource: migrations }, false)
await k.migrate.latest({ migrationSource: migrations })

await k.schema.createTable('acked_knex', (t) => t.integer('id').primary())
const found = await killed({
  insert: (id) => k('acked_knex').insert({ id }),
  reconnect: async () => { await k.destroy(); k = open() },
  ids: () => k('acked_knex').pluck('id'),
}, 5)
await k.destroy()
end(found)
