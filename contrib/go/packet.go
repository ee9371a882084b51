// SPDX-License-Identifier: MIT

package fixd

import (
	"syscall"
	"time"
)

// A packet that came, and its descriptors, which are close-on-exec.
type packet struct {
	kind uint16
	id   uint64
	body []byte
	fds  []int
}

func (p *packet) close() {
	for _, fd := range p.fds {
		syscall.Close(fd)
	}
	p.fds = nil
}

// Never blocks for longer than the daemon has to take anything at all.
func (l *link) write(message []byte) error {
	var err error
	l.file.SetWriteDeadline(time.Now().Add(answerTime))
	waited := l.raw.Write(func(fd uintptr) bool {
		err = syscall.Sendmsg(int(fd), message, nil, nil, syscall.MSG_NOSIGNAL)
		return err != syscall.EAGAIN && err != syscall.EINTR
	})
	if waited != nil {
		return waited
	}
	return err
}

func takeFds(oob []byte) (fds []int) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range messages {
		if rights, err := syscall.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, rights...)
		}
	}
	return fds
}

// Waits for the next one.
func (l *link) read() (*packet, *Error) {
	var n, oobn, flags int
	var err error
	buf, oob := make([]byte, messageMax), make([]byte, syscall.CmsgSpace(4*fdsMax))
	waited := l.raw.Read(func(fd uintptr) bool {
		n, oobn, flags, _, err = syscall.Recvmsg(int(fd), buf, oob, syscall.MSG_CMSG_CLOEXEC)
		return err != syscall.EAGAIN && err != syscall.EINTR
	})
	if waited != nil || err != nil || n == 0 {
		return nil, fail(syscall.ECONNRESET, "the daemon at %s has closed the connection", l.path)
	}
	p := &packet{fds: takeFds(oob[:oobn])}
	if n >= headerSize {
		p.kind, p.id, p.body = little.Uint16(buf), little.Uint64(buf[8:]), buf[headerSize:n]
	}
	switch {
	case n < headerSize || int(little.Uint32(buf[4:])) != n || flags&syscall.MSG_TRUNC != 0:
		p.close()
		return nil, fail(syscall.EPROTO, "the daemon at %s sent a malformed message", l.path)
	case flags&syscall.MSG_CTRUNC != 0:
		p.close() // what is missing is told to whoever waits
	case int(little.Uint16(buf[2:])) != len(p.fds) && p.kind != typeError:
		p.close()
		return nil, fail(syscall.EPROTO, "the daemon at %s sent a malformed message", l.path)
	}
	return p, nil
}
