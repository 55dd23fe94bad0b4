// pg-boss: two instances on one database, started at once, with workers, retries and a transaction's own jobs.
import { at, end, must, need, until, url } from './harness.mjs'

const { PgBoss } = need('pg-boss')
const { Client, Pool } = need('pg')
const bosses = [new PgBoss({ connectionString: url, max: 5 }), new PgBoss({ connectionString: url, max: 5 })]
for (const b of bosses) b.on('error', (e) => { console.error(e); process.exit(1) })
await Promise.all(bosses.map((b) => b.start())) // both want to make the schema
await bosses[0].createQueue('work', { retryLimit: 2, retryDelay: 1 })

const jobs = 120
const done = new Map()
for (const b of bosses) {
  for (let i = 0; i < 3; i++) {
    await b.work('work', { batchSize: 4, pollingIntervalSeconds: 0.5 }, async (batch) => {
      for (const { data } of batch) {
        done.set(data.n, (done.get(data.n) ?? 0) + 1)
        at(done.size, jobs, 'jobs')
        if (data.n === 7 && done.get(7) === 1) throw new Error('once')
      }
    })
  }
}
await Promise.all(Array.from({ length: jobs / 2 }, (_, n) => bosses[n % 2].send('work', { n })))
await bosses[1].insert('work', Array.from({ length: jobs / 2 }, (_, n) => ({ data: { n: jobs / 2 + n } })))

// A job of a transaction that is rolled back never runs.
const pool = new Pool({ connectionString: url })
const client = await pool.connect()
await client.query('BEGIN')
await bosses[0].send('work', { n: -1 }, { db: { executeSql: (text, values) => client.query(text, values) } })
await client.query('ROLLBACK')
client.release()

const count = async (sql) => Number((await pool.query(sql)).rows[0].n)
await until('all jobs are completed', async () => (await count("SELECT count(*) AS n FROM pgboss.job WHERE name = 'work' AND state = 'completed'")) === jobs)
must(!done.has(-1), 'a job of a transaction that was rolled back ran')
must((await count('SELECT count(*) AS n FROM pgboss.job')) >= jobs, 'jobs')
must(done.get(7) >= 2, 'the job that failed once was not done again')
const twice = [...done].filter(([n, times]) => times > 1 && n !== 7)
must(twice.length <= 3, 'jobs ran more than once: ' + JSON.stringify(twice)) // those of the batch that failed are done again
await Promise.all(bosses.map((b) => b.stop({ graceful: true })))
await pool.end()
end()
