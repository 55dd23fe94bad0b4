# psycopg 3 against a server, with its own threshold for preparing statements.
#   python3 py_psycopg.py URL
import json
import sys
import threading

import psycopg
from psycopg import errors, sql
from psycopg.types.json import Jsonb

url = sys.argv[1]


def must(ok, text):
    if not ok:
        raise Exception(text)


def prepared(conn):
    return conn.execute("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE '\\_pg3\\_%'", prepare=False).fetchone()[0]


# More than 1,000 statements on two connections that take turns: 120 texts each, of which psycopg prepares one when it comes
# for the sixth time, under names that both use, and keeps 100: it deallocates the others.
def statements(conns):
    texts, turns, done = 120, 6, 0
    for n in range(texts):
        for turn in range(turns):
            for by, conn in enumerate(conns):
                row = conn.execute(sql.SQL("SELECT %s::int * 1000 + {} + {}").format(sql.Literal(n), sql.Literal(by)), (turn,)).fetchone()
                must(row[0] == turn * 1000 + n + by, "statement %d of connection %d: %r" % (n, by, row))
                done += 1
                if n == 0 and turn == turns - 2:
                    must(prepared(conn) == 0, "prepared too early")
        print("AT %d %d statements" % (done, texts * turns * len(conns)), flush=True)
    must(done > 1000, "statements: %d" % done)


with psycopg.connect(url, autocommit=True) as a, psycopg.connect(url, autocommit=True) as b:
    must(a.prepare_threshold == 5 and a.prepared_max == 100, "psycopg has other defaults: %r %r" % (a.prepare_threshold, a.prepared_max))
    statements([a, b])
    for conn in (a, b):
        must(prepared(conn) in (100, 101), "prepared: %d" % prepared(conn))  # 3.1 keeps one more

# A table that changes under a prepared statement.
with psycopg.connect(url) as conn:
    conn.execute("CREATE TABLE py3 (id serial PRIMARY KEY, v text, j jsonb, at timestamptz DEFAULT now())")
    conn.commit()
    for _ in range(8):
        conn.execute("INSERT INTO py3 (v, j) VALUES (%s, %s)", ("x", Jsonb({"n": [1]})))
        conn.commit()
    conn.execute("ALTER TABLE py3 ALTER COLUMN v TYPE varchar(20)")
    conn.commit()
    conn.execute("INSERT INTO py3 (v, j) VALUES (%s, %s)", ("y", None))
    conn.commit()
    must(conn.execute("SELECT count(*), max(id) FROM py3").fetchone() == (9, 9), "rows")
    try:
        with conn.transaction():
            conn.execute("INSERT INTO py3 (id) VALUES (1)")
        raise Exception("a duplicate was taken")
    except errors.UniqueViolation:
        pass
    with conn.transaction():
        conn.execute("UPDATE py3 SET v = 'z'")
        try:
            with conn.transaction():
                conn.execute("DELETE FROM py3")
                raise psycopg.Rollback
        except psycopg.Rollback:
            pass
    must(conn.execute("SELECT count(*) FROM py3 WHERE v = 'z'").fetchone()[0] == 9, "a savepoint")

    # A pipeline: many statements on their way at once, and an error in the middle of them.
    if psycopg.Pipeline.is_supported():
        with conn.pipeline():
            found = [conn.execute("SELECT %s::int", (i,)) for i in range(100)]
            must([f.fetchone()[0] for f in found] == list(range(100)), "a pipeline")
        conn.rollback()
        try:
            with conn.pipeline() as p:
                conn.execute("UPDATE py3 SET v = 'lost'")
                conn.execute("SELECT 1 / %s", (0,))
                conn.execute("SELECT 1")
                p.sync()
            raise Exception("a division by zero was taken")
        except (errors.DivisionByZero, errors.PipelineAborted):
            conn.rollback()
        must(conn.execute("SELECT count(*) FROM py3 WHERE v = 'lost'").fetchone()[0] == 0, "a pipeline's rollback")

    with conn.cursor() as cur:
        with cur.copy("COPY py3 (v) FROM STDIN") as copy:
            for i in range(1000):
                copy.write_row(("copied %d" % i,))
        with cur.copy("COPY (SELECT v FROM py3 WHERE v LIKE 'copied%') TO STDOUT (FORMAT BINARY)") as copy:
            copy.set_types(["text"])
            must(sum(1 for _ in copy.rows()) == 1000, "COPY")
    with conn.cursor(name="server side", scrollable=True) as cur:
        cur.execute("SELECT id FROM py3 ORDER BY id")
        must(len(cur.fetchmany(500)) == 500, "a cursor")
        with psycopg.connect(url) as other:  # it goes on while somebody else works
            must(other.execute("SELECT count(*) FROM py3").fetchone()[0] == 9, "what is not committed is seen")
        cur.scroll(-500)
        must(len(cur.fetchall()) == 1009, "a cursor that went back")
    conn.commit()

# Notifications reach a connection that waits.
with psycopg.connect(url, autocommit=True) as ears, psycopg.connect(url, autocommit=True) as mouth:
    ears.execute("LISTEN said")
    threading.Thread(target=lambda: [mouth.execute("SELECT pg_notify('said', %s)", (str(i),)) for i in range(10)]).start()
    heard = []
    for n in ears.notifies():
        heard.append(int(n.payload))
        if len(heard) == 10:
            break
    must(heard == list(range(10)), "notifications: %r" % heard)

# Ten connections lock the same row.
with psycopg.connect(url, autocommit=True) as conn:
    conn.execute("CREATE TABLE py3_counter (n int)")
    conn.execute("INSERT INTO py3_counter VALUES (0)")
failures = []


def increments():
    try:
        with psycopg.connect(url) as mine:
            for _ in range(10):
                with mine.transaction():
                    n = mine.execute("SELECT n FROM py3_counter FOR UPDATE").fetchone()[0]
                    mine.execute("UPDATE py3_counter SET n = %s", (n + 1,))
    except Exception as e:
        failures.append(e)


threads = [threading.Thread(target=increments) for _ in range(10)]
for t in threads:
    t.start()
for t in threads:
    t.join()
must(not failures, "increments: %r" % failures)
with psycopg.connect(url) as conn:
    must(conn.execute("SELECT n FROM py3_counter").fetchone()[0] == 100, "increments were lost")
print("FOUND " + json.dumps({}))
