// SPDX-License-Identifier: MIT

// Package fixd gives tests the fixtures of a fixd(8) daemon: expensive ones, which are built once, and shared by all test binaries
// of all runs.
//
// In a test, Get attaches a fixture for as long as the test binary runs, and Own for as long as the test does:
//
//	func TestLookup(t *testing.T) {
//		corpus := fixd.Get(t, "corpus").Bytes() // shared, read-only, no copy
//		pg := fixd.Own(t, "pg").String()        // a pristine server of its own: `clones` in fixd.ini(5)
//		t.Log(len(corpus), pg)
//	}
//
// Where there is no test, as in TestMain, Hold does what Get does.
// Elsewhere Open, Conn.Attach and View.Detach do what fixd_open(3), fixd_attach(3) and fixd_detach(3) do. The package is Go alone:
// it speaks fixd-protocol(7), and needs neither cgo nor libfixd.
//
// Its environment is that of libfixd(3): FIXD_SOCKET, where the daemon listens; FIXD_TIMEOUT, how long to wait for a build when the
// context has no deadline, in seconds or with ms, s, m or h (60s); FIXD_DISABLE=1, ask no daemon: an attach fails with
// syscall.ECANCELED.
package fixd

import (
	"context"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	defaultTimeout = time.Minute
	maxTimeout     = 1000000 * time.Second
	grace          = 2 * time.Second // for an answer after the daemon's own time-out
)

// A Conn is a connection to the daemon, for any number of goroutines. When the daemon was restarted it connects again.
type Conn struct {
	sockets []string
	timeout time.Duration

	mu        sync.Mutex
	link      *link
	closed    bool
	variables map[string][]string // by fixture: whose values the daemon wants with an attach
}

var durationForm = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?$`)

func timeoutFromEnvironment() (time.Duration, *Error) {
	s := os.Getenv("FIXD_TIMEOUT")
	if s == "" {
		return defaultTimeout, nil
	}
	m := durationForm.FindStringSubmatch(s)
	if m != nil && m[2] == "" {
		s += "s"
	}
	d, err := time.ParseDuration(s)
	if m == nil || err != nil || d < time.Millisecond || d > maxTimeout {
		return 0, fail(syscall.EINVAL, "FIXD_TIMEOUT is '%s'; expected a number of seconds, or one with ms, s, m or h, above 0", os.Getenv("FIXD_TIMEOUT"))
	}
	return d, nil
}

func isDisabled() bool { return os.Getenv("FIXD_DISABLE") == "1" }

// Open connects to the daemon that listens at socket or, if that is "", at $FIXD_SOCKET or the first default of fixd(8) where one
// does. With FIXD_DISABLE=1 it succeeds and asks no daemon.
func Open(socket string) (*Conn, error) {
	timeout, failed := timeoutFromEnvironment()
	if failed != nil {
		return nil, failed
	}
	c := &Conn{timeout: timeout, variables: map[string][]string{}}
	if socket == "" {
		socket = os.Getenv("FIXD_SOCKET")
	}
	if socket != "" {
		c.sockets = []string{socket}
	} else {
		c.sockets = socketsToTry()
	}
	if isDisabled() {
		return c, nil
	}
	_, failed = c.connected()
	if failed != nil {
		return nil, failed
	}
	return c, nil
}

// Close ends the connection and all its leases. Views stay mapped until they are detached.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.link != nil {
		c.link.end(fail(syscall.ENOTCONN, "the connection is closed"))
	}
	return nil
}

// What is there is no daemon for this user: another may listen behind it.
func isNoDaemon(errno syscall.Errno) bool {
	switch errno {
	case syscall.ECONNREFUSED, syscall.EPROTOTYPE, syscall.ECONNRESET, syscall.ELOOP, syscall.EACCES, syscall.ENOENT:
		return true
	}
	return false
}

// The connection there is, or a new one.
func (c *Conn) connected() (*link, *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fail(syscall.ENOTCONN, "the connection is closed")
	}
	if c.link != nil {
		c.link.mu.Lock()
		alive := c.link.why == nil
		c.link.mu.Unlock()
		if alive {
			return c.link, nil
		}
	}
	var first *Error
	for i, socket := range c.sockets {
		l, failed := dial(socket)
		if failed == nil {
			c.link, c.sockets = l, c.sockets[i:i+1]
			return l, nil
		}
		if first == nil {
			first = failed
		}
		if !isNoDaemon(failed.Errno) {
			break
		}
	}
	// ENOENT is for fixtures.
	if first.Errno == syscall.ENOENT {
		first.Errno = syscall.ECONNREFUSED
	}
	return nil, first
}

// An Option says how a fixture is attached.
type Option func(*request)

type request struct {
	name, key, test string
	private         bool
}

// Private makes the view copy-on-write: what is written to it is this process's own, and View.Reset undoes it.
func Private() Option { return func(r *request) { r.private = true } }

// Scope says where the test is, as "package/file::Suite::test". A fixture takes the part of its scope: all of it (function), without
// the last part (class), before "::" (module), its directory (package), nothing (session).
func Scope(key string) Option { return func(r *request) { r.key = key } }

// Test names the test that attaches, for fixctl trace and report.
func Test(name string) Option { return func(r *request) { r.test = name } }

func (r *request) check() *Error {
	switch {
	case len(r.name) == 0 || len(r.name) > nameMax:
		return fail(syscall.EINVAL, "the name of a fixture has 1 to %d bytes", nameMax)
	case len(r.key) > keyMax:
		return fail(syscall.EINVAL, "a scope key has at most %d bytes", keyMax)
	case len(r.test) > testMax:
		r.test = strings.ToValidUTF8(r.test[:testMax], "")
	}
	return nil
}

// Of name[param].
func fixtureOf(name string) string { return strings.SplitN(name, "[", 2)[0] }

// What the fixture's definition names, as it is in this environment.
func (c *Conn) environmentFor(name string) (string, *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, variable := range c.variables[fixtureOf(name)] {
		b.WriteString(variable)
		if value, ok := os.LookupEnv(variable); ok {
			b.WriteString("=" + value)
		}
		b.WriteByte(0)
	}
	if b.Len() > envMax {
		return "", fail(syscall.E2BIG, "the variables that fixture '%s' names have more than %d bytes", name, envMax)
	}
	return b.String(), nil
}

// The daemon has named the variables. False: it had them all.
func (c *Conn) learn(name, names string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.variables[fixtureOf(name)]
	if strings.Join(known, "\n") == strings.TrimSuffix(names, "\n") && known != nil {
		return false
	}
	c.variables[fixtureOf(name)] = strings.Split(strings.TrimSuffix(names, "\n"), "\n")
	return true
}

func (c *Conn) limitOf(ctx context.Context) time.Duration {
	limit := c.timeout
	if deadline, ok := ctx.Deadline(); ok {
		limit = time.Until(deadline)
	}
	if limit > maxTimeout {
		limit = maxTimeout
	}
	return limit
}

// Attach gives a view of the fixture name, or name[param], which is built first if there is no fresh image of it. An edit of an
// input that was complete before the call is always seen. The context limits the wait; the build itself goes on. Whoever attaches
// calls View.Detach, or ends: leases end with the process.
func (c *Conn) Attach(ctx context.Context, name string, options ...Option) (*View, error) {
	r := request{name: name}
	for _, option := range options {
		option(&r)
	}
	if failed := r.check(); failed != nil {
		return nil, failed
	}
	if isDisabled() {
		return nil, fail(syscall.ECANCELED, "FIXD_DISABLE is set: no daemon is asked for '%s'", name)
	}
	for lost := time.Now().Add(grace); ; {
		v, err := c.attachOnce(ctx, &r)
		failed, ok := err.(*Error)
		again := ok && failed.Errno == syscall.ECONNRESET && time.Now().Before(lost) // its lease is gone, too
		again = again || (ok && failed.Errno == syscall.ENOKEY && c.learn(name, failed.Sentence))
		if !again || ctx.Err() != nil {
			return v, err
		}
	}
}

func (c *Conn) attachOnce(ctx context.Context, r *request) (*View, error) {
	limit := c.limitOf(ctx)
	if err := ctx.Err(); err == context.Canceled {
		return nil, err
	}
	if limit < time.Millisecond {
		return nil, fail(syscall.ETIMEDOUT, "'%s' was not asked for: the context's deadline had passed", r.name)
	}
	l, failed := c.connected()
	if failed != nil {
		return nil, failed
	}
	env, failed := c.environmentFor(r.name)
	if failed != nil {
		return nil, failed
	}
	p, err := l.ask(ctx, limit+grace, r.test, typeAttach, 16, encodeAttach(uint32(limit.Milliseconds()), r.name, r.key, env))
	if err != nil {
		return nil, err
	}
	defer p.close()
	a, ok := decodeAttached(p.body, len(p.fds))
	if p.kind != typeAttach|typeReply || !ok {
		if len(p.body) >= 8+imageSize { // its descriptors could not be taken
			l.tell("", typeDetach, 24, encodeDetach(little.Uint64(p.body[8:]), 0, 0, 0))
			return nil, fail(syscall.EMFILE, "this process has no descriptor left for what the daemon sent")
		}
		return nil, fail(syscall.EPROTO, "the daemon at %s sent a malformed answer", l.path)
	}
	v, failed := newView(l, r.name, r.test, a, p.fds, r.private)
	if failed != nil {
		l.tell("", typeDetach, 24, encodeDetach(a.images[0].serial, 0, 0, 0))
		return nil, failed
	}
	return v, nil
}
