'use strict'
// Everything that comes from the database is put in as text (textContent), never as markup.
const get = id => document.getElementById(id)
let token = ''

async function ask(path, options = {}) {
  const headers = {...options.headers}
  if (token) headers.Authorization = 'Bearer ' + token
  const answer = await fetch(path, {...options, headers, cache: 'no-store', redirect: 'error'})
  get('denied').hidden = answer.status !== 401
  return answer
}

const sizes = ['bytes', 'kB', 'MB', 'GB', 'TB']
function bytes(n) {
  let i = 0
  for (; n >= 1000 && i < sizes.length - 1; i++) n /= 1000
  return (i ? n.toPrecision(3) : n) + ' ' + sizes[i]
}

function element(name, text, style) {
  const e = document.createElement(name)
  e.textContent = text
  if (style) e.className = style
  return e
}

function figures(s) {
  const lines = [['State', s.reason ? s.state + ': ' + s.reason : s.state]]
  if (s.epoch) {
    lines.push(['Writer', 'epoch ' + s.epoch + (s.leased ? ', lease held' : ', lease not held (the next request renews it)')])
    lines.push(['Opened in', Math.round(s.opened_ms) + ' ms' + (s.created ? ', as a new database' : ', ' + bytes(s.backup_bytes) + ' restored, ' + s.replayed_records + ' records replayed')])
  }
  lines.push(['Commits', s.commits + ' in ' + s.records + ' records, ' + bytes(s.wal_bytes)])
  lines.push(['Waits for the store', s.answers_held + ' answers so far, ' + (s.answer_wait_ms / Math.max(1, s.answers_held)).toFixed(1) + ' ms each'])
  if (s.replica_lag_ms >= 0) lines.push(['Replica', Math.round(s.replica_lag_ms) + ' ms behind'])
  if (s.cache_budget_bytes) lines.push(['Files', bytes(s.cache_resident_bytes) + ' in memory of ' + bytes(s.cache_budget_bytes) + ', ' + bytes(s.cache_away_bytes) + ' in the store only'])
  lines.push(['Requests to the store', s.class_a + ' writes and lists, ' + s.class_b + ' reads, ' + bytes(s.bytes_up) + ' up, ' + bytes(s.bytes_down) + ' down'])
  lines.push(['Cost of these', '$' + s.requests_usd.toFixed(6) + ' at Cloud Storage\'s list prices since this process began, without storage and compute'])
  const list = get('figures')
  list.replaceChildren(...lines.flatMap(([name, value]) => [element('dt', name), element('dd', value)]))
  get('state').textContent = s.state
}

async function refresh() {
  try {
    const answer = await ask('/status.json')
    if (answer.ok) figures(await answer.json())
    else get('state').textContent = answer.status === 401 ? 'needs its token' : 'answered ' + answer.status
  } catch (e) {
    get('state').textContent = 'not responding'
  }
}

function table(into, result) {
  const head = document.createElement('tr')
  head.append(...result.columns.map(c => { const th = element('th', c.name); th.title = c.type; th.scope = 'col'; return th }))
  const most = 1000
  const rows = result.rows.slice(0, most).map(row => {
    const tr = document.createElement('tr')
    tr.append(...row.map(v => v === null ? element('td', 'null', 'null') : element('td', typeof v === 'object' ? JSON.stringify(v) : String(v))))
    return tr
  })
  into.replaceChildren(head, ...rows)
  return result.rows.length > most ? ' (only the first ' + most + ' are shown)' : ''
}

async function run(sql, into) {
  const said = get('said')
  said.className = ''
  said.textContent = 'running'
  into.replaceChildren()
  try {
    const answer = await ask('/sql?database=' + encodeURIComponent(get('database').value), {
      method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({sql}),
    })
    const result = await answer.json()
    if (!answer.ok) {
      const e = result.error || {}
      said.className = 'bad'
      said.textContent = [e.sqlstate, e.message, e.detail, e.hint, 'Outcome: ' + result.outcome].filter(Boolean).join('. ')
    } else {
      const cut = table(into, result)
      said.textContent = result.tag + (result.rows.length ? ': ' + result.rows.length + ' rows' + cut : '')
    }
  } catch (e) {
    said.className = 'bad'
    said.textContent = 'the answer could not be read: ' + e.message
  }
  refresh()
}

const tables = `SELECT n.nspname AS schema, c.relname AS name, pg_total_relation_size(c.oid) AS bytes, greatest(c.reltuples, 0)::bigint AS rows_about
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
ORDER BY 3 DESC LIMIT 200`

get('form').addEventListener('submit', e => { e.preventDefault(); run(get('sql').value, get('rows')) })
get('sql').addEventListener('keydown', e => { if (e.key === 'Enter' && e.ctrlKey) { e.preventDefault(); run(get('sql').value, get('rows')) } })
get('list').addEventListener('click', () => run(tables, get('tables')))
get('enter').addEventListener('click', () => { token = get('token').value; get('token').value = ''; refresh() })
refresh()
setInterval(() => { if (!document.hidden) refresh() }, 5000)
