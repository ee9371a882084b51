// SPDX-License-Identifier: MIT

package fixd

import (
	"encoding/binary"
	"syscall"
)

// The protocol: fixd-protocol(7), and messages.go.
const (
	typeReply = 0x8000
	typeError = 0xffff

	attachedBuilt = 1
	attachedOfRun = 4

	kindObjects = 2
)

var little = binary.LittleEndian

// A message whose fixed part has so many bytes, and what is behind that.
func encode(kind uint16, id uint64, fixed int, body []byte) []byte {
	m := make([]byte, 0, headerSize+len(body))
	m = little.AppendUint16(m, kind)
	m = little.AppendUint16(m, uint16(fixed))
	m = little.AppendUint32(m, uint32(headerSize+len(body)))
	m = little.AppendUint64(m, id)
	return append(m, body...)
}

func encodeHello(version, lowest uint32) []byte {
	return little.AppendUint32(little.AppendUint32(nil, version), lowest)
}

func encodeAttach(milliseconds uint32, name, key, env string) []byte {
	b := little.AppendUint32(make([]byte, 4), milliseconds)
	for _, n := range []int{len(name), len(key), len(env), 0} {
		b = little.AppendUint16(b, uint16(n))
	}
	return append(append(append(b, name...), key...), env...)
}

func encodeDetach(serial, pages uint64, resets, dirty uint32) []byte {
	b := little.AppendUint64(little.AppendUint64(nil, serial), pages)
	return little.AppendUint32(little.AppendUint32(b, resets), dirty)
}

func encodeTest(test string) []byte {
	return append(append(little.AppendUint16(nil, uint16(len(test))), make([]byte, 6)...), test...)
}

// What the daemon says of an image.
type image struct {
	serial, address, size, root uint64
	digest                      [2]uint64
	boardValue                  uint64
	boardSlot, generation, kind uint32
}

func decodeImage(b []byte) image {
	return image{
		serial: little.Uint64(b), address: little.Uint64(b[8:]), size: little.Uint64(b[16:]), root: little.Uint64(b[24:]),
		digest:     [2]uint64{little.Uint64(b[32:]), little.Uint64(b[40:])},
		boardValue: little.Uint64(b[48:]), boardSlot: little.Uint32(b[56:]), generation: little.Uint32(b[60:]), kind: little.Uint32(b[64:]),
	}
}

// The answer to an attach.
type attached struct {
	flags  uint32
	images []image
	path   string
}

// False: it is malformed.
func decodeAttached(b []byte, fds int) (a attached, ok bool) {
	if len(b) < 8 {
		return a, false
	}
	n, path := int(little.Uint16(b[4:])), int(little.Uint16(b[6:]))
	if n < 1 || n != fds || len(b) != 8+n*imageSize+path {
		return a, false
	}
	a.flags = little.Uint32(b)
	for i := 0; i < n; i++ {
		a.images = append(a.images, decodeImage(b[8+i*imageSize:]))
	}
	a.path = string(b[8+n*imageSize:])
	return a, path == 0 || a.path[0] == '/'
}

// The daemon's sentence; nil: it is malformed.
func decodeError(b []byte) *Error {
	if len(b) < 8 {
		return nil
	}
	errno, n := -int32(little.Uint32(b)), little.Uint32(b[4:])
	if errno <= 0 || errno > 4095 || uint64(n) > uint64(len(b)-8) {
		return nil
	}
	e := &Error{syscall.Errno(errno), string(b[8 : 8+n])}
	if e.Sentence == "" {
		e.Sentence = e.Errno.Error()
	}
	return e
}
