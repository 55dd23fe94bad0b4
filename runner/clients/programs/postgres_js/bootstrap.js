// Stands for postgres.js' own preparations: the same users and database, without changes of the server's settings.
import { spawnSync } from 'node:child_process'

export function exec(cmd, args) {
  const { stderr, error } = spawnSync(cmd, args, { stdio: 'pipe', encoding: 'utf8' })
  if (error) throw error
  if (stderr) console.error(stderr.trim())
}

const as = (name, method) => [
  'psql', ['-c', `SET password_encryption = '${method}'`, '-c', `CREATE USER ${name} PASSWORD '${name}'`],
]
exec('psql', ['-c', 'CREATE USER postgres_js_test'])
exec(...as('postgres_js_test_md5', 'md5'))
exec(...as('postgres_js_test_scram', 'scram-sha-256'))
exec('createdb', ['postgres_js_test', '-O', 'postgres_js_test'])
