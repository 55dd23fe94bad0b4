package pgwire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/engine"
	"blobpglite/core/pglite"
)

// session is the one session of an engine, and what of its clients is in it. Its fields belong to whoever has the turn,
// but for those that say otherwise.
type session struct {
	srv    *Server
	engine *engine.Engine
	wiped  atomic.Uint64 // how often all prepared statements were removed

	last      atomic.Pointer[client] // whose state is in the session
	looked    bool                   // risky is known
	risky     bool                   // there are functions that may change the session
	login     string                 // to whom RESET SESSION AUTHORIZATION goes back
	user      string                 // of SESSION AUTHORIZATION
	role      string
	settings  map[string]string // set in the session
	prepared  []string          // PREPAREd in it
	tainted   bool              // there may be settings that cannot be listed: custom ones
	unknown   bool              // what is set is not known: somebody has gone, or has discarded everything
	listening map[string]bool   // channels

	mu    sync.Mutex
	owner *client       // who has the turn; under mu
	since time.Duration // likewise
	runs  *client       // whose unit runs now; under mu
}

func newSession(s *Server, e *engine.Engine) *session {
	return &session{srv: s, engine: e, user: firstRole, settings: map[string]string{}, listening: map[string]bool{}}
}

// running notes whose unit runs: that is what a cancel request may hit.
func (s *session) running(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs = c
}

func (s *session) cancel(c *client) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runs != c {
		return false
	}
	s.engine.Cancel()
	return true
}

// held notes who has the turn.
func (s *session) held(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owner, s.since = c, s.srv.o.Clock.Monotonic()
}

// holder says who has the turn, for those who wait.
func (s *session) holder() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner == nil {
		return "it is busy"
	}
	text := fmt.Sprintf("connection %d of user %q has had it for %v", s.owner.id, s.owner.user,
		(s.srv.o.Clock.Monotonic() - s.since).Round(time.Millisecond))
	if p := s.owner.pin.Load(); p != nil {
		text += ", and keeps it because of its " + *p
	}
	return text
}

func (s *session) pinnedBy() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner == nil {
		return ""
	}
	if p := s.owner.pin.Load(); p != nil {
		return *p
	}
	return ""
}

// do runs SQL of the server's own in the client's turn.
func (s *session) do(ctx context.Context, c *client, sql string) ([]pglite.Result, error) {
	message, err := (&pgproto3.Query{String: sql}).Encode(nil)
	if err != nil {
		return nil, err
	}
	answer, err := s.feed(ctx, c, message)
	if err != nil {
		return nil, err
	}
	return pglite.ParseResults(answer)
}

// feed runs messages of the server's own. Nothing in them has to be durable.
func (s *session) feed(ctx context.Context, c *client, messages []byte) (*bytes.Buffer, error) {
	var answer bytes.Buffer
	given := false
	_, err := c.turn.Run(ctx, engine.Talk{
		Next: func(func() error) ([]byte, error) {
			if given {
				return nil, io.EOF
			}
			given = true
			return messages, nil
		},
		Filter: func(p []byte) []byte { answer.Write(p); return nil },
		Out:    io.Discard,
	})
	return &answer, err
}

// enter puts a client's state into the session, after what is there has been saved.
func (s *session) enter(ctx context.Context, c *client) error {
	if !s.looked {
		if err := s.look(ctx, c); err != nil {
			return err
		}
	}
	last := s.last.Load()
	if last == c && !s.unknown {
		return nil
	}
	if last != nil && last != c && !s.unknown {
		if err := s.save(ctx, c, last); err != nil {
			return err
		}
		s.srv.switches.Add(1)
	}
	s.last.Store(c)
	return s.install(ctx, c)
}

// install makes the session's state that of a client.
func (s *session) install(ctx context.Context, c *client) error {
	var sql []string
	if s.unknown {
		sql = append(sql, asSuperuser, "RESET ROLE", "RESET ALL", "DEALLOCATE ALL")
		s.wiped.Add(1)
		s.user, s.role, s.settings, s.prepared = firstRole, "", map[string]string{}, nil
	}
	own := 0
	if !slices.Equal(s.prepared, c.prepared) {
		for _, p := range s.prepared {
			sql = append(sql, "DEALLOCATE "+quoteIdent(preparedName(p)))
		}
		s.prepared, own = nil, len(c.prepared)
	}
	changed := !maps.Equal(s.settings, c.settings)
	if (changed || s.user != c.acts || s.role != c.role) && (s.user != firstRole || s.role != "") {
		sql = append(sql, asSuperuser, "RESET ROLE")
		s.user, s.role = firstRole, ""
	}
	before := s.settings
	if s.tainted || changed && len(before) > 0 {
		sql = append(sql, "RESET ALL")
		before, s.tainted = nil, false
	}
	for _, name := range sortedKeys(c.settings) {
		if value, there := before[name]; !there || value != c.settings[name] {
			sql = append(sql, fmt.Sprintf("SELECT pg_catalog.set_config(%s, %s, false)", quoteLiteral(name), quoteLiteral(c.settings[name])))
		}
	}
	if s.login != c.whose {
		if err := s.logIn(ctx, c, sql); err != nil {
			return err
		}
		sql = nil
	}
	if s.user != c.acts {
		sql = append(sql, authorize(c.acts))
	}
	if s.role != c.role {
		sql = append(sql, "SET ROLE "+quoteIdent(c.role))
	}
	if own > 0 {
		sql = append(sql, c.prepared...)
	}
	if len(sql) == 0 {
		return nil
	}
	// Each by itself: text of a client's own must not swallow what follows it.
	for _, q := range batches(sql, own) {
		if _, err := s.do(ctx, c, q); err != nil {
			s.unknown = true
			return refusedSetting(err)
		}
	}
	s.user, s.role, s.settings, s.prepared, s.unknown = c.acts, c.role, maps.Clone(c.settings), slices.Clone(c.prepared), false
	return nil
}

// logIn makes the session that of a client's user, behind other statements.
func (s *session) logIn(ctx context.Context, c *client, before []string) error {
	s.unknown = true // until it is done
	all := append(before, authorize(c.whose))
	if _, err := s.do(ctx, c, strings.Join(all, ";")); err != nil {
		return refusedSetting(err)
	}
	if err := c.turn.KeepIdentity(); err != nil {
		return err
	}
	s.login, s.user, s.role, s.unknown = c.whose, c.whose, "", false
	return nil
}

// batches joins statements into as few queries as possible; the last n stay apart.
func batches(sql []string, n int) []string {
	at := max(0, len(sql)-n)
	var all []string
	if at > 0 {
		all = append(all, strings.Join(sql[:at], ";"))
	}
	return append(all, sql[at:]...)
}

// preparedName finds the name in a PREPARE statement that PostgreSQL has accepted.
func preparedName(sql string) string {
	rest := strings.TrimSpace(sql)
	rest = strings.TrimSpace(rest[min(len("PREPARE"), len(rest)):])
	if strings.HasPrefix(rest, `"`) {
		if name, _, ok := unquote(rest); ok {
			return name
		}
	}
	n := 0
	for n < len(rest) && (isWord(rest[n]) || rest[n] == '$') {
		n++
	}
	return strings.ToLower(rest[:n])
}

// refusedSetting is the error of a client whose state the session does not take.
func refusedSetting(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return failure(pg.Code, "%s", pg.Message)
	}
	return err
}

// firstRole stands for the role that the database was made with, of oid 10, whose name anybody may change and give to another
// one. No role can be called this.
const firstRole = "\x00"

// authorize is the statement that makes a role the session's user.
func authorize(role string) string {
	if role == firstRole {
		return asSuperuser
	}
	return "SET SESSION AUTHORIZATION " + quoteIdent(role)
}

// asSuperuser gives the session back to the role that the database was made with, whatever it is called now.
const asSuperuser = "SELECT pg_catalog.set_config('session_authorization', pg_catalog.pg_get_userbyid(10)::pg_catalog.text, false)"

const (
	settingsSQL = `SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session'
		AND name NOT IN ('transaction_isolation', 'transaction_read_only', 'transaction_deferrable')`
	identitySQL = `SELECT pg_catalog.current_setting('role'), pg_catalog.current_setting('session_authorization'), pg_catalog.pg_get_userbyid(10)`
	preparedSQL = `SELECT statement FROM pg_catalog.pg_prepared_statements WHERE from_sql ORDER BY prepare_time, name`
	pinsSQL     = `SELECT pg_catalog.concat_ws(' and ',
		CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema()) THEN 'temporary tables' END,
		CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory') THEN 'session advisory locks' END,
		CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable) THEN 'cursors WITH HOLD' END)`
	channelsSQL = `SELECT pg_catalog.pg_listening_channels()`
	riskySQL    = `SELECT EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
		WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND p.prosrc ~*
		'(set_config|advisory|\mset\s+(local|session)\M|\mreset\M|\mprepare\M|\mlisten\M|\mtemp(orary)?\M|\mdiscard\M|\mdeallocate\M|\mexecute\M|\mhold\M|(^|;|\mbegin|\mthen|\melse|\mloop)\s*set\s)')`
)

// look finds out whether there are functions that may change the session out of sight.
func (s *session) look(ctx context.Context, c *client) error {
	r, err := s.do(ctx, c, riskySQL)
	if err != nil {
		return fmt.Errorf("look for functions that change the session: %w", err)
	}
	s.risky, s.looked = r[0].Rows[0][0] == "t", true
	return nil
}

// settle ends a transaction of the client: what has to be known before others may come is found out.
func (s *session) settle(ctx context.Context, c *client) error {
	h := c.dirty
	if h == 0 && c.pinned == "" {
		return nil
	}
	if h&usesWipe != 0 {
		s.wiped.Add(1)
		c.dirty &^= usesWipe
	}
	if h&usesForget != 0 {
		clear(c.statements)
		c.dirty &^= usesForget
	}
	if h&usesFunctions != 0 {
		c.dirty &^= usesFunctions
		if err := s.look(ctx, c); err != nil {
			return err
		}
	}
	if h&usesReset != 0 {
		c.dirty &^= usesReset
		if len(c.startupSettings) > 0 || c.user != Superuser {
			if err := s.reset(ctx, c); err != nil {
				return err
			}
		}
	}
	if h&usesListen != 0 || len(c.wanted) > 0 {
		c.dirty &^= usesListen
		if err := s.channels(ctx, c); err != nil {
			return err
		}
	}
	if h&usesPins != 0 || c.pinned != "" {
		c.dirty &^= usesPins
		r, err := s.do(ctx, c, pinsSQL)
		if err != nil {
			return fmt.Errorf("look for what pins the session: %w", err)
		}
		c.pinned = r[0].Rows[0][0]
		c.pin.Store(nil)
		if c.pinned != "" {
			pinned := c.pinned
			c.pin.Store(&pinned)
		}
	}
	return nil
}

// reset gives a client that has said RESET, or SET ... TO DEFAULT, what it said at its start-up.
func (s *session) reset(ctx context.Context, c *client) error {
	if err := s.save(ctx, c, c); err != nil {
		return err
	}
	return s.install(ctx, c)
}

// save reads what a client, whose state is in the session, has changed. The turn is of's, or another one's that comes.
func (s *session) save(ctx context.Context, turn, of *client) error {
	if of.dirty&usesSettings != 0 {
		r, err := s.do(ctx, turn, settingsSQL+";"+identitySQL)
		if err != nil {
			return fmt.Errorf("save a client's settings: %w", err)
		}
		set := map[string]string{}
		for _, row := range r[0].Rows {
			set[row[0]] = row[1]
		}
		s.settings = set
		if err := s.saveCustom(ctx, turn, of, set); err != nil {
			return err
		}
		s.tainted = true
		s.role, s.user = r[1].Rows[0][0], r[1].Rows[0][1]
		if s.user == "" { // it has never been set
			s.user = firstRole
		}
		if s.role == "none" {
			s.role = ""
		}
		merged := maps.Clone(of.startupSettings)
		if merged == nil {
			merged = map[string]string{}
		}
		for name, value := range set {
			for start := range merged {
				if strings.EqualFold(start, name) {
					delete(merged, start)
				}
			}
			merged[name] = value
		}
		of.settings, of.role, of.acts = merged, s.role, s.user
		if first := r[1].Rows[0][2]; s.user == first || s.user == firstRole {
			s.user, of.acts = firstRole, of.whose // who is no superuser does not become one by a RESET
			if of.whose == first {
				s.user = first
			}
		}
		of.dirty &^= usesSettings
	}
	if of.dirty&usesPrepared != 0 {
		r, err := s.do(ctx, turn, preparedSQL)
		if err != nil {
			return fmt.Errorf("save a client's prepared statements: %w", err)
		}
		of.prepared = nil
		for _, row := range r[0].Rows {
			of.prepared = append(of.prepared, row[0])
		}
		s.prepared = slices.Clone(of.prepared)
		of.dirty &^= usesPrepared
	}
	return nil
}

// saveCustom adds the custom settings that the client has named: PostgreSQL does not list them.
func (s *session) saveCustom(ctx context.Context, turn, of *client, set map[string]string) error {
	if len(of.custom) == 0 {
		return nil
	}
	names := sortedKeys(of.custom)
	var columns []string
	for _, name := range names {
		columns = append(columns, fmt.Sprintf("pg_catalog.current_setting(%s, true)", quoteLiteral(name)))
	}
	r, err := s.do(ctx, turn, "SELECT "+strings.Join(columns, ","))
	if err != nil {
		return fmt.Errorf("save a client's own settings: %w", err)
	}
	for i, value := range r[0].Rows[0] {
		if value != pglite.NullText && value != "" {
			set[names[i]] = value
		}
	}
	return nil
}

// channels finds out what the client listens to, and makes the session listen to what any client does.
func (s *session) channels(ctx context.Context, c *client) error {
	r, err := s.do(ctx, c, channelsSQL)
	if err != nil {
		return fmt.Errorf("find the channels: %w", err)
	}
	now := map[string]bool{}
	for _, row := range r[0].Rows {
		now[row[0]] = true
	}
	sharers := s.srv.sharers(s)
	var sql []string
	s.mu.Lock()
	for ch := range now {
		if !s.listening[ch] || slices.Contains(c.wanted, ch) {
			c.channels[ch] = true
		}
	}
	for ch := range s.listening {
		if !now[ch] {
			delete(c.channels, ch)
		}
	}
	wanted := map[string]bool{}
	for _, other := range sharers {
		maps.Copy(wanted, other.channels)
	}
	s.mu.Unlock()
	for _, ch := range sortedKeys(wanted) {
		if !now[ch] {
			sql = append(sql, "LISTEN "+quoteIdent(ch))
		}
	}
	for _, ch := range sortedKeys(now) {
		if !wanted[ch] {
			sql = append(sql, "UNLISTEN "+quoteIdent(ch))
		}
	}
	c.wanted = nil
	s.listening = wanted
	if len(sql) == 0 {
		return nil
	}
	if _, err := s.do(ctx, c, strings.Join(sql, ";")); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return nil
}

// spread hands notifications to the clients that listen.
func (s *session) spread(all []notification) {
	if len(all) == 0 {
		return
	}
	sharers := s.srv.sharers(s)
	for _, n := range all {
		message, err := (&pgproto3.NotificationResponse{PID: n.from, Channel: n.channel, Payload: n.payload}).Encode(nil)
		if err != nil {
			continue // only a text of gigabytes
		}
		for _, c := range sharers {
			s.mu.Lock()
			hears := c.channels[n.channel]
			s.mu.Unlock()
			if hears {
				c.notify(message)
			}
		}
	}
}
