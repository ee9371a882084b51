// SPDX-License-Identifier: MIT

package fixd

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

// What the daemon writes of the images that are current; mapped until the process ends.
type board struct{ words []uint64 }

func mapBoard(fd int, slots uint32) (*board, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, err
	}
	// One that could become shorter would be a crash one day.
	if seals := sealsOf(fd); slots == 0 || slots > 1<<24 || st.Size < int64(slots)*8 || seals&sealShrink == 0 {
		return nil, syscall.EPROTO
	}
	bytes, err := syscall.Mmap(fd, 0, int(slots)*8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return &board{unsafe.Slice((*uint64)(unsafe.Pointer(&bytes[0])), slots)}, nil
}

func (b *board) holds(slot uint32, value uint64) bool {
	return int(slot) < len(b.words) && atomic.LoadUint64(&b.words[slot]) == value
}
