# psycopg2 against a server.
#   python3 psycopg2.py URL
import json
import sys
import threading
import time

import psycopg2
import psycopg2.errors
import psycopg2.extras
import psycopg2.pool

url = sys.argv[1]


def must(ok, text):
    if not ok:
        raise Exception(text)


c = psycopg2.connect(url)
with c, c.cursor() as q:
    q.execute("CREATE TABLE py (id int PRIMARY KEY, v text, j jsonb, b bytea, n numeric, a int[])")
    q.execute("INSERT INTO py VALUES (%s,%s,%s,%s,%s,%s)", (1, "one", psycopg2.extras.Json({"x": 1}), b"\x00\xff", 1.5, [1, 2]))
    q.execute("SELECT * FROM py WHERE id = %s", (1,))
    row = q.fetchone()
    must(row[1] == "one" and row[2]["x"] == 1 and bytes(row[3]) == b"\x00\xff" and row[5] == [1, 2], "a row: %r" % (row,))
try:
    with c, c.cursor() as q:
        q.execute("INSERT INTO py VALUES (1)")
    raise Exception("a duplicate was taken")
except psycopg2.errors.UniqueViolation:
    pass
try:
    with c, c.cursor() as q:
        q.execute("SELEC")
    raise Exception("nonsense was taken")
except psycopg2.errors.SyntaxError:
    pass
with c.cursor() as q:
    q.execute("DELETE FROM py")
    c.rollback()
    q.execute("SELECT count(*) FROM py")
    must(q.fetchone()[0] == 1, "rollback")
    c.rollback()
with c, c.cursor("named") as q:  # a server-side cursor
    q.itersize = 100
    q.execute("SELECT g FROM generate_series(1, 1000) g")
    must(sum(r[0] for r in q) == 500500, "a cursor")
with c, c.cursor() as q:
    q.execute("CREATE TABLE py_counter (n int); INSERT INTO py_counter VALUES (0)")
    q.execute("CREATE TABLE acked_py (id int PRIMARY KEY)")

failures = []


def work(f):
    def run():
        try:
            f()
        except Exception as e:
            failures.append(e)

    threads = [threading.Thread(target=run) for _ in range(5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def increments():
    mine = psycopg2.connect(url)
    for _ in range(10):
        with mine, mine.cursor() as q:
            q.execute("SELECT n FROM py_counter FOR UPDATE")
            q.execute("UPDATE py_counter SET n = %s", (q.fetchone()[0] + 1,))
    mine.close()


work(increments)
must(not failures, "increments: %r" % failures)
with c, c.cursor() as q:
    q.execute("SELECT n FROM py_counter")
    must(q.fetchone()[0] == 50, "increments were lost")

acked, lock, state = [], threading.Lock(), {"next": 0, "asked": False}


def insert():
    mine = psycopg2.connect(url)
    while True:
        with lock:
            number = state["next"]
            state["next"] += 1
        try:
            with mine, mine.cursor() as q:
                q.execute("INSERT INTO acked_py VALUES (%s)", (number,))
        except psycopg2.Error:
            return
        with lock:
            acked.append(number)
            if len(acked) >= 50 and not state["asked"]:
                state["asked"] = True
                print("KILL", flush=True)


work(insert)
must(not failures, "inserts: %r" % failures)
sys.stdin.readline()
for tries in range(100):
    try:
        c = psycopg2.connect(url)
        with c, c.cursor() as q:
            q.execute("SELECT id FROM acked_py")
            found = {r[0] for r in q.fetchall()}
        break
    except psycopg2.Error:
        if tries == 99:
            raise
        time.sleep(0.1)
print("FOUND " + json.dumps({"acked": len(acked), "lost": len([i for i in acked if i not in found]), "invented": len([i for i in found if i >= state["next"]])}))
