// SPDX-License-Identifier: MIT

package fixd

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// A View is one image in this process, with the lease that holds it. All goroutines may read it at once; nobody may use it beside
// Reset and Detach.
type View struct {
	name, test, path string
	link             *link
	image            image
	flags            uint32
	mappings         []*mapping
	tree             int // holds its directory
	pages            uint64
	resets, dirty    uint32
}

// Bytes returns the image: of a file or the output of a command, all of it; of a service, its value. They are mapped, not copied,
// and gone after Detach. They may be written to if the view is Private; otherwise a write is a fault.
func (v *View) Bytes() []byte { return v.mappings[0].bytes }

// String returns a copy of the bytes: what a service's value is wanted for.
func (v *View) String() string { return string(v.Bytes()) }

// Root points to the object that a builder in C has set, in memory where all its pointers are valid; nil if the image is empty.
func (v *View) Root() unsafe.Pointer {
	if len(v.Bytes()) == 0 {
		return nil
	}
	return unsafe.Pointer(&v.Bytes()[v.image.root])
}

// Path returns where the tree of a directory fixture is, or "". It stays there until Detach.
func (v *View) Path() string { return v.path }

// Generation is 1 for the first image of a fixture, and so on.
func (v *View) Generation() uint32 { return v.image.generation }

// Digest returns the image's XXH3-128, as 32 hexadecimal digits.
func (v *View) Digest() string {
	return fmt.Sprintf("%016x%016x", v.image.digest[1], v.image.digest[0])
}

// Built reports whether this attach had to wait for a build.
func (v *View) Built() bool { return v.flags&attachedBuilt != 0 }

// Current reports whether this is still what an attach would give: one load from memory, no system call.
func (v *View) Current() bool {
	return atomic.LoadUint32(&v.link.dead) == 0 && v.link.board.holds(v.image.boardSlot, v.image.boardValue)
}

// Reset makes a Private view pristine, with what it points into in other images.
func (v *View) Reset() error {
	var pages uint64
	for _, m := range v.mappings {
		n, err := m.reset()
		if pages += n; err != nil {
			return fail(errnoOf(err), "the pages of '%s' that this process has changed cannot be put back: %v", v.name, err)
		}
	}
	if pages > 0 && v.test != "" {
		v.link.tell(v.test, typeChanged, 16, encodeDetach(v.image.serial, pages, 0, 0)[:16])
		return nil
	}
	v.resets++
	if pages > 0 {
		v.dirty++
	}
	v.pages += pages
	return nil
}

// Detach gives the lease back, and unmaps: Bytes are gone. Of a service with clones it ends the clone.
func (v *View) Detach() {
	if v.mappings == nil {
		return
	}
	v.free()
	v.link.tell("", typeDetach, 24, encodeDetach(v.image.serial, v.pages, v.resets, v.dirty))
}

func (v *View) free() {
	for _, m := range v.mappings {
		m.unref()
	}
	v.mappings = nil
	if v.tree >= 0 {
		syscall.Close(v.tree)
	}
	v.tree = -1
}

// The directory is held, so that a daemon that was restarted leaves it alone.
func (v *View) holdTree() *Error {
	fd, err := syscall.Open(v.path, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err == nil {
		v.tree = fd
		err = syscall.Flock(fd, syscall.LOCK_SH|syscall.LOCK_NB)
	}
	if err != nil {
		return fail(errnoOf(err), "the tree of '%s' at %s cannot be opened: %v", v.name, v.path, err)
	}
	return nil
}

func (v *View) cannotMap(errno syscall.Errno, im *image) *Error {
	switch errno {
	case syscall.EBUSY:
		return fail(errno, "the objects of '%s', or what they point into, are mapped in this process already, and one of the views is private; detach that one first", v.name)
	case syscall.EEXIST:
		return fail(errno, "the objects of '%s' belong at 0x%x, where this process has something else; address-base in fixd.ini moves them", v.name, im.address)
	case syscall.EPROTO:
		return fail(errno, "the daemon at %s sent an image of '%s' that is not what it says of it", v.link.path, v.name)
	}
	return fail(errno, "'%s' cannot be mapped: %v", v.name, errno)
}

func newView(l *link, name, test string, a attached, fds []int, private bool) (*View, *Error) {
	v := &View{name: name, test: test, path: a.path, link: l, image: a.images[0], flags: a.flags, tree: -1}
	if v.path != "" {
		if failed := v.holdTree(); failed != nil {
			v.free()
			return nil, failed
		}
	}
	for i := range a.images {
		im := &a.images[i]
		m, errno := getMapping(im, l.pid, fds[i], private, i > 0 || im.kind == kindObjects)
		if errno != 0 {
			v.free()
			return nil, v.cannotMap(errno, im)
		}
		v.mappings = append(v.mappings, m)
	}
	return v, nil
}
