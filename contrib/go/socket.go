// SPDX-License-Identifier: MIT

package fixd

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	systemSocket = "/run/fixd/socket"
	socketMax    = 107 // bytes of its path: unix(7)
	answerTime   = 10 * time.Second
)

// A directory of this user's that nobody else can write to.
func isOwn(directory string) bool {
	var st syscall.Stat_t
	return syscall.Lstat(directory, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFDIR && int(st.Uid) == os.Geteuid() && st.Mode&022 == 0
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Whatever HOME says; "" where only the name service knows it.
func accountHome() string {
	users, _ := os.ReadFile("/etc/passwd")
	for _, line := range strings.Split(string(users), "\n") {
		if field := strings.Split(line, ":"); len(field) > 5 && field[2] == strconv.Itoa(os.Geteuid()) {
			return field[5]
		}
	}
	return ""
}

// Where this user's daemon may listen, the first first: as libfixd looks for it.
func ownSockets() (found []string) {
	uid := strconv.Itoa(os.Geteuid())
	add := func(base, behind string, usable bool) {
		if path := filepath.Join(base, behind, "socket"); usable && strings.HasPrefix(base, "/") && len(path) <= socketMax {
			found = append(found, path)
		}
	}
	runtime, run, tmp, home := os.Getenv("XDG_RUNTIME_DIR"), "/run/user/"+uid, "/tmp/fixd-"+uid, os.Getenv("HOME")
	inTmp := !isThere(tmp) || isOwn(tmp)
	add(runtime, "fixd", isOwn(runtime))
	add(run, "fixd", isOwn(run))
	add(tmp, "", inTmp)
	if !inTmp {
		account := accountHome()
		add(account, ".cache/fixd", isOwn(account))
	}
	add(home, ".cache/fixd", isOwn(home))
	return found
}

// The sockets to try, one after the other: where one that a daemon has left behind does not hide another that is alive.
func socketsToTry() []string {
	var found []string
	own := ownSockets()
	for _, path := range own {
		if isThere(path) {
			found = append(found, path)
		}
	}
	if syscall.Access(systemSocket, 2) == nil || (len(found) == 0 && (len(own) == 0 || os.Geteuid() == 0)) {
		found = append(found, systemSocket)
	}
	if len(found) == 0 {
		found = own[:1]
	}
	return found
}

// A connected socket, which does not block.
func connect(path string) (int, *Error) {
	if len(path) == 0 || len(path) > socketMax {
		return -1, fail(syscall.ENAMETOOLONG, "'%s' is no socket: its path has 1 to %d bytes, not %d", path, socketMax, len(path))
	}
	if path[0] == '@' { // which Go takes for an abstract one
		path = "./" + path
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fail(errnoOf(err), "no socket can be made: %v", err)
	}
	// It limits connect, too: a stopped daemon's queue may be full.
	limit := syscall.NsecToTimeval(int64(answerTime))
	err = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &limit)
	for deadline := time.Now().Add(answerTime); err == nil; {
		err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: path})
		if err != syscall.EINTR || time.Now().After(deadline) {
			break
		}
		err = nil
	}
	if err == nil {
		err = syscall.SetNonblock(fd, true)
	}
	if err == nil {
		return fd, nil
	}
	syscall.Close(fd)
	switch errno := errnoOf(err); errno {
	case syscall.EACCES:
		return -1, fail(errno, "the daemon at %s is not for this user: %v", path, errno)
	case syscall.EAGAIN, syscall.EINTR:
		return -1, fail(syscall.ETIMEDOUT, "no daemon at %s: it takes no connection; start one with 'fixd --config FILE'", path)
	default:
		return -1, fail(errno, "no daemon at %s: %v; start one with 'fixd --config FILE'", path, errno)
	}
}
