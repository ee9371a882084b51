// SPDX-License-Identifier: MIT

package fixd

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// One connection to one daemon. Its leases, and what its board says, end with it.
type link struct {
	path  string
	file  *os.File
	raw   syscall.RawConn
	pid   uint32
	board *board
	dead  uint32 // atomic

	mu      sync.Mutex // of what follows; whoever has it sends
	lastID  uint64
	test    string // that the daemon was told of
	waiting map[uint64]chan *packet
	why     *Error // it is dead
}

func dial(path string) (*link, *Error) {
	fd, failed := connect(path)
	if failed != nil {
		return nil, failed
	}
	l := &link{path: path, file: os.NewFile(uintptr(fd), path), waiting: map[uint64]chan *packet{}}
	l.raw, _ = l.file.SyscallConn()
	failed = l.greet(wireVersion, wireVersionMin)
	// A daemon from before it was asked for ranges takes a hello of its own version only.
	if failed != nil && failed.Errno == syscall.EPROTONOSUPPORT && l.greet(wireVersionMin, 0) == nil {
		failed = nil
	}
	if failed != nil {
		l.file.Close()
		return nil, failed
	}
	go l.receive()
	return l, nil
}

func (l *link) greet(version, lowest uint32) *Error {
	l.file.SetReadDeadline(time.Now().Add(answerTime))
	defer l.file.SetReadDeadline(time.Time{})
	l.lastID++
	if err := l.write(encode(typeHello, l.lastID, 8, encodeHello(version, lowest))); err != nil {
		return fail(errnoOf(err), "the daemon at %s cannot be greeted: %v", l.path, err)
	}
	p, failed := l.read()
	if failed != nil {
		return failed
	}
	defer p.close()
	if p.kind == typeError {
		if e := decodeError(p.body); e != nil {
			return e
		}
	}
	if p.kind != typeHello|typeReply || p.id != l.lastID || len(p.body) < 16 || len(p.fds) != 1 {
		return fail(syscall.EPROTO, "what listens at %s is no fixd", l.path)
	}
	l.pid = little.Uint32(p.body[12:])
	board, err := mapBoard(p.fds[0], little.Uint32(p.body[8:]))
	if err != nil {
		return fail(errnoOf(err), "the board cannot be mapped: %v", err)
	}
	l.board = board
	return nil
}

// Takes what the daemon says to whoever waits for it, until the end.
func (l *link) receive() {
	for {
		p, failed := l.read()
		if failed != nil {
			l.end(failed)
			return
		}
		l.mu.Lock()
		to := l.waiting[p.id]
		delete(l.waiting, p.id)
		l.mu.Unlock()
		if to == nil {
			l.giveBack(p)
		} else {
			to <- p
		}
	}
}

func (l *link) end(why *Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why != nil {
		return
	}
	l.why = why
	atomic.StoreUint32(&l.dead, 1)
	for id, to := range l.waiting {
		close(to)
		delete(l.waiting, id)
	}
	l.file.Close()
}

// An answer that nobody waits for any more: its lease goes back.
func (l *link) giveBack(p *packet) {
	fds := len(p.fds)
	p.close()
	if p.kind != typeAttach|typeReply {
		return
	}
	if a, ok := decodeAttached(p.body, fds); ok {
		l.tell("", typeDetach, 24, encodeDetach(a.images[0].serial, 0, 0, 0))
	}
}

// Sends, with the name of the test that it is for before it. Locked.
func (l *link) send(test string, kind uint16, fixed int, body []byte) error {
	if l.why != nil {
		return syscall.EPIPE
	}
	if test != "" && test != l.test {
		l.lastID++
		if err := l.write(encode(typeTest, l.lastID, 8, encodeTest(test))); err != nil {
			return err
		}
		l.test = test
	}
	l.lastID++
	return l.write(encode(kind, l.lastID, fixed, body))
}

// Says what has no answer. What cannot be said would be held for ever: then all of it ends.
func (l *link) tell(test string, kind uint16, fixed int, body []byte) {
	l.mu.Lock()
	err := l.send(test, kind, fixed, body)
	l.mu.Unlock()
	if err != nil {
		l.end(fail(syscall.ECONNRESET, "the daemon at %s cannot be asked: %v", l.path, err))
	}
}

// Asks, and waits until `limit` has passed or `ctx` is cancelled.
func (l *link) ask(ctx context.Context, limit time.Duration, test string, kind uint16, fixed int, body []byte) (*packet, error) {
	to := make(chan *packet, 1)
	l.mu.Lock()
	err := l.send(test, kind, fixed, body)
	id := l.lastID
	if err == nil {
		l.waiting[id] = to
	}
	l.mu.Unlock()
	if err != nil {
		l.end(fail(syscall.ECONNRESET, "the daemon at %s cannot be asked: %v", l.path, err))
		return nil, l.why
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	cancelled := ctx.Done()
	for {
		select {
		case p := <-to:
			return l.answer(p)
		case <-timer.C:
			return nil, l.giveUp(id, to, fail(syscall.ETIMEDOUT, "the daemon at %s has not answered within %v", l.path, limit.Round(time.Second/10)))
		case <-cancelled:
			if ctx.Err() != context.DeadlineExceeded {
				return nil, l.giveUp(id, to, ctx.Err())
			}
			cancelled = nil // the daemon knows it, too, and says what it was waited for
		}
	}
}

func (l *link) answer(p *packet) (*packet, error) {
	if p == nil {
		return nil, l.why
	}
	if p.kind != typeError {
		return p, nil
	}
	p.close()
	if e := decodeError(p.body); e != nil {
		return nil, e
	}
	return nil, fail(syscall.EPROTO, "the daemon at %s sent a malformed error", l.path)
}

func (l *link) giveUp(id uint64, to chan *packet, why error) error {
	l.mu.Lock()
	_, waits := l.waiting[id]
	delete(l.waiting, id)
	l.mu.Unlock()
	if !waits {
		if p := <-to; p != nil {
			l.giveBack(p)
		}
	}
	return why
}
