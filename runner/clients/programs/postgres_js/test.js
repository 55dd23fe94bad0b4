// Stands for postgres.js' own runner of its tests: one after the other, in their order, also behind one that failed. Such a
// one is cleaned up after. It says what passed and what failed, as the trials' other programs do.
import util from 'node:util'
import postgres from '../src/index.js'

const tests = []
export const nt = () => {}
export const ot = (...rest) => t(...rest)
export function t(name, options, fn) {
  if (typeof options !== 'object') [fn, options] = [options, {}]
  if (tests.length === 0) setImmediate(run)
  tests.push({ name, fn, timeout: options.timeout ?? t.timeout })
}
t.timeout = 5
process.on('unhandledRejection', (e) => console.error('unhandled', e))

// A test that failed may have left tables, and transactions that hold them.
async function clear() {
  const sql = postgres({ db: 'postgres_js_test', max: 1, onnotice() {} })
  await sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'postgres_js_test' AND state LIKE 'idle in%' AND pid <> pg_backend_pid()`
  const left = await sql`SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`
  for (const { name } of left) await sql.unsafe('DROP TABLE ' + name)
  await sql`DROP PUBLICATION IF EXISTS alltables`
  await sql.end()
}

async function wrongWith({ fn, timeout }) {
  let timer
  const late = new Promise((_, no) => { timer = setTimeout(() => no(new Error('timed out')), timeout * 1000) })
  try {
    const [want, got] = await Promise.all(await Promise.race([fn(), late]))
    return want === got ? undefined : `${util.inspect(got)}, want ${util.inspect(want)}`
  } catch (e) {
    return util.inspect(e).slice(0, 300)
  } finally { clearTimeout(timer) }
}

async function run() {
  const [passed, failed] = [[], {}]
  for (const [i, test] of tests.entries()) {
    const wrong = await wrongWith(test)
    const name = `${test.name} (${i + 1})` // some have the same name
    if (wrong === undefined) passed.push(name)
    else {
      failed[name] = wrong
      await clear().catch((e) => { failed[name] += ', and cleaning up: ' + e.message })
    }
    console.log(`AT ${i + 1} ${tests.length} postgres.js`)
  }
  console.log('FOUND ' + JSON.stringify({ passed, failed }))
  process.exit(0)
}
