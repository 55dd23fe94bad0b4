// node-postgres against a server: schema, CRUD, transactions, errors, concurrency, and the server's death.
//   node node_pg.mjs FOLDER_OF_NODE_MODULES URL
import { end, killed, must, need, rejects, url } from './harness.mjs'

const pg = need('pg')
const pool = new pg.Pool({ connectionString: url, max: 10 })
pool.on('error', () => {})

await pool.query('CREATE TABLE np (id int PRIMARY KEY, v text, j jsonb, b bytea, at timestamptz, a int[])')
await pool.query('INSERT INTO np VALUES ($1,$2,$3,$4,$5,$6)', [1, 'one', { x: [1] }, Buffer.from([0, 255]), new Date(0), [1, 2]])
const row = (await pool.query('SELECT * FROM np WHERE id = $1', [1])).rows[0]
must(row.v === 'one' && row.j.x[0] === 1 && row.b[1] === 255 && row.at.getTime() === 0 && row.a[1] === 2, 'a row: ' + JSON.stringify(row))
must((await pool.query('UPDATE np SET v = $2 WHERE id = $1', [1, 'uno'])).rowCount === 1, 'update')
await rejects(pool.query('INSERT INTO np VALUES (1)'), '23505')
await rejects(pool.query('SELEC'), '42601')
must((await pool.query('DELETE FROM np')).rowCount === 1, 'delete')

const client = await pool.connect()
await client.query('BEGIN')
await client.query('INSERT INTO np VALUES (2)')
await client.query('ROLLBACK')
client.release()
must((await pool.query('SELECT count(*)::int AS n FROM np')).rows[0].n === 0, 'rollback')

// The same name for different statements on different connections.
const [a, b] = [await pool.connect(), await pool.connect()]
for (let i = 0; i < 3; i++) {
  must((await a.query({ name: 'q', text: 'SELECT $1::int + 1 AS n', values: [i] })).rows[0].n === i + 1, 'statement of a')
  must((await b.query({ name: 'q', text: 'SELECT $1::int * 2 AS n', values: [i] })).rows[0].n === i * 2, 'statement of b')
}
a.release(); b.release()

await pool.query('CREATE TABLE counter (n int); INSERT INTO counter VALUES (0)')
await Promise.all(Array.from({ length: 10 }, async () => {
  for (let i = 0; i < 10; i++) {
    const c = await pool.connect()
    try {
      await c.query('BEGIN')
      const n = (await c.query('SELECT n FROM counter FOR UPDATE')).rows[0].n
      await c.query('UPDATE counter SET n = $1', [n + 1])
      await c.query('COMMIT')
    } finally { c.release() }
  }
}))
must((await pool.query('SELECT n FROM counter')).rows[0].n === 100, 'increments were lost')

await pool.query('CREATE TABLE acked (id int PRIMARY KEY)')
const found = await killed({
  insert: (id) => pool.query('INSERT INTO acked VALUES ($1)', [id]),
  ids: async () => (await pool.query('SELECT id FROM acked')).rows.map((r) => r.id),
}, 10)
await pool.end()
end(found)
