// graphile-worker: its migrations, two runners that LISTEN, jobs that are noticed at once, retries, a job key.
import { at, end, must, need, until, url } from './harness.mjs'

const { Logger, makeWorkerUtils, run } = need('graphile-worker')
const { Pool } = need('pg')
const logger = new Logger(() => (level, message) => { if (level === 'error' && !message.includes('once')) console.error(message) })
const pool = new Pool({ connectionString: url, max: 10 })
pool.on('error', () => {})
const utils = await makeWorkerUtils({ pgPool: pool, logger })
await Promise.all([utils.migrate(), utils.migrate()])
await pool.query('CREATE TABLE made (n int, attempt int, at timestamptz DEFAULT clock_timestamp())')

const jobs = 100
let done = 0
const taskList = {
  make: async ({ n }, { query, job }) => {
    if (n === 5 && job.attempts === 1) throw new Error('once')
    await query('INSERT INTO made VALUES ($1, $2)', [n, job.attempts])
    at(++done, jobs + 2, 'jobs')
  },
}
// They poll so rarely that only a notification gets a job done in time.
const runners = await Promise.all([1, 2].map(() => run({ connectionString: url, concurrency: 4, taskList, logger, noHandleSignals: true, pollInterval: 600000, maxPoolSize: 6 })))
await utils.addJob('make', { n: 0 })
const count = async (sql) => Number((await pool.query(sql)).rows[0].n)
await until('a notification gets a job done', async () => (await count('SELECT count(*) AS n FROM made')) === 1)

await Promise.all(Array.from({ length: jobs - 1 }, (_, i) => utils.addJob('make', { n: i + 1 })))
await until('all jobs but the failed one are done', async () => (await count('SELECT count(DISTINCT n) AS n FROM made')) === jobs - 1)
must((await count('SELECT count(*) AS n FROM made')) === jobs - 1, 'a job ran twice')

// The one that failed is due later: it is made due now, which the next notification finds.
await pool.query("UPDATE graphile_worker._private_jobs SET run_at = now() WHERE attempts > 0")
await utils.addJob('make', { n: jobs })
await until('the job that failed once is done again', async () => (await count('SELECT count(*) AS n FROM made WHERE n = 5 AND attempt = 2')) === 1)

// A key: the second replaces the first.
await utils.addJob('make', { n: jobs + 1 }, { jobKey: 'one', runAt: new Date(Date.now() + 3600e3) })
await utils.addJob('make', { n: jobs + 2 }, { jobKey: 'one' })
await until('the job that replaced another is done', async () => (await count(`SELECT count(*) AS n FROM made WHERE n = ${jobs + 2}`)) === 1)
must((await count(`SELECT count(*) AS n FROM made WHERE n = ${jobs + 1}`)) === 0, 'a job that was replaced ran')
must((await count('SELECT count(*) AS n FROM graphile_worker._private_jobs')) === 0, 'jobs are left')
await Promise.all(runners.map((r) => r.stop()))
await utils.release()
await pool.end()
end()
