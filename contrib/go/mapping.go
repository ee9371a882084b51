// SPDX-License-Identifier: MIT

package fixd

import (
	"os"
	"sync"
	"syscall"
	"unsafe"
)

const (
	getSeals       = 1034 // fcntl(2)
	sealShrink     = 2
	sealsOfImage   = 1 | sealShrink | 4 | 8
	fixedNoReplace = 0x100000 // mmap(2)
)

func sealsOf(fd int) uintptr {
	seals, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), getSeals, 0)
	if errno != 0 {
		return 0
	}
	return seals
}

// An image in this process. Objects lie where they expect to be, once.
type mapping struct {
	serial  uint64
	pid     uint32 // of the daemon
	private bool
	atHome  bool
	refs    int
	bytes   []byte
}

var (
	homesLock sync.Mutex
	homes     []*mapping
)

// The daemon is another process: what it says of an image must be so.
func verify(im *image, fd int) syscall.Errno {
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil || sealsOf(fd)&sealsOfImage != sealsOfImage || uint64(st.Size) != im.size ||
		(im.root != 0 && im.root >= im.size) || im.address%4096 != 0 {
		return syscall.EPROTO
	}
	return 0
}

func (m *mapping) mapAt(address uint64, size uint64, fd int) syscall.Errno {
	protection, flags := uintptr(syscall.PROT_READ), uintptr(syscall.MAP_PRIVATE)
	if m.private {
		protection |= syscall.PROT_WRITE
	}
	if address != 0 {
		flags |= fixedNoReplace
	}
	if size == 0 {
		return 0
	}
	p, _, errno := syscall.Syscall6(syscall.SYS_MMAP, uintptr(address), uintptr(size), protection, flags, uintptr(fd), 0)
	if errno != 0 {
		return errno
	}
	m.bytes = unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&p))), size)
	if address != 0 && p != uintptr(address) {
		m.unmap()
		return syscall.EEXIST
	}
	return 0
}

func (m *mapping) unmap() {
	if len(m.bytes) > 0 {
		syscall.Syscall(syscall.SYS_MUNMAP, uintptr(unsafe.Pointer(&m.bytes[0])), uintptr(len(m.bytes)), 0)
	}
	m.bytes = nil
}

func findHome(im *image, pid uint32) *mapping {
	for _, m := range homes {
		if m.serial == im.serial && m.pid == pid {
			return m
		}
	}
	return nil
}

func getMapping(im *image, pid uint32, fd int, private, atHome bool) (*mapping, syscall.Errno) {
	if errno := verify(im, fd); errno != 0 {
		return nil, errno
	}
	m := &mapping{serial: im.serial, pid: pid, private: private, atHome: atHome, refs: 1}
	if !atHome {
		return m, m.mapAt(0, im.size, fd)
	}
	homesLock.Lock()
	defer homesLock.Unlock()
	if there := findHome(im, pid); there != nil {
		// Two that may be written to would be one, and the reset of one undo what the other has written.
		if there.private || private {
			return nil, syscall.EBUSY
		}
		there.refs++
		return there, 0
	}
	if errno := m.mapAt(im.address, im.size, fd); errno != 0 {
		return nil, errno
	}
	homes = append(homes, m)
	return m, 0
}

func (m *mapping) unref() {
	homesLock.Lock()
	defer homesLock.Unlock()
	if m.refs--; m.refs > 0 {
		return
	}
	for i, other := range homes {
		if other == m {
			homes = append(homes[:i], homes[i+1:]...)
			break
		}
	}
	m.unmap()
}

// Of pagemap: the process has that page to itself, in memory or swapped out.
func isDirty(entry uint64) bool { return entry>>62 != 0 && entry&(1<<61) == 0 }

// Drops what was written to it; returns how many pages.
func (m *mapping) reset() (pages uint64, err error) {
	if !m.private || len(m.bytes) == 0 {
		return 0, nil
	}
	pagemap, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return 0, err
	}
	defer pagemap.Close()
	size := os.Getpagesize()
	first := int64(uintptr(unsafe.Pointer(&m.bytes[0]))) / int64(size)
	total := (len(m.bytes) + size - 1) / size
	entries := make([]byte, 8*4096)
	for at := 0; at < total; at += 4096 {
		n := total - at
		if n > 4096 {
			n = 4096
		}
		if _, err := pagemap.ReadAt(entries[:8*n], (first+int64(at))*8); err != nil {
			return pages, err
		}
		for i := 0; i < n; i++ {
			run := i
			for run < n && isDirty(little.Uint64(entries[8*run:])) {
				run++
			}
			if run == i {
				continue
			}
			from, to := (at+i)*size, (at+run)*size
			if to > len(m.bytes) {
				to = len(m.bytes)
			}
			if err := syscall.Madvise(m.bytes[from:to], syscall.MADV_DONTNEED); err != nil {
				return pages, err
			}
			pages += uint64(run - i)
			i = run
		}
	}
	return pages, nil
}
