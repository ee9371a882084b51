// SPDX-License-Identifier: MIT

package fixd

import (
	"context"
	"fmt"
	"syscall"
)

// An Error says why something could not be had: the daemon's own sentence, with the last words of a builder that failed, or what
// went wrong on the way to it.
//
// errors.Is tells them apart: syscall.EIO, a build failed; syscall.ENOENT, no such fixture; context.DeadlineExceeded, not ready in
// time (the build goes on); syscall.ECANCELED, FIXD_DISABLE=1 is set; syscall.ECONNREFUSED, no daemon.
type Error struct {
	Errno    syscall.Errno
	Sentence string
}

func (e *Error) Error() string { return e.Sentence }

// Unwrap returns the number.
func (e *Error) Unwrap() error { return e.Errno }

// Is makes a time-out one of package context, too.
func (e *Error) Is(target error) bool {
	return target == context.DeadlineExceeded && e.Errno == syscall.ETIMEDOUT
}

// Timeout reports whether it was not ready in time.
func (e *Error) Timeout() bool { return e.Errno == syscall.ETIMEDOUT }

func fail(errno syscall.Errno, format string, args ...any) *Error {
	return &Error{errno, fmt.Sprintf(format, args...)}
}

// The number that a system call gave.
func errnoOf(err error) syscall.Errno {
	if errno, ok := err.(syscall.Errno); ok {
		return errno
	}
	return syscall.EIO
}
