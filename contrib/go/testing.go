// SPDX-License-Identifier: MIT

package fixd

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// TB is the part of testing.TB that is used here.
type TB interface {
	Helper()
	Name() string
	Cleanup(func())
	Fatal(args ...any)
}

var (
	process struct {
		sync.Mutex
		conn *Conn
	}
	kept struct {
		sync.Mutex
		views map[string]*keptView
	}
)

// A fixture that the test binary holds; one test attaches it, and others wait for it.
type keptView struct {
	sync.Mutex
	view *View
}

// The connection of the test binary, which is closed by its end.
func processConn() (*Conn, error) {
	process.Lock()
	defer process.Unlock()
	if process.conn == nil {
		c, err := Open("")
		if err != nil {
			return nil, err
		}
		process.conn = c
	}
	return process.conn, nil
}

// Where go test has started the binary: the package's directory, below that of go.mod.
func packagePath() string {
	here, err := os.Getwd()
	if err != nil {
		return "."
	}
	for root := here; ; root = filepath.Dir(root) {
		if isThere(filepath.Join(root, "go.mod")) {
			path, _ := filepath.Rel(root, here)
			return path
		}
		if root == filepath.Dir(root) {
			return filepath.Base(here)
		}
	}
}

// A package's tests are one module; a test with its sub-tests is a class.
func scopeOf(test string) Option {
	module := packagePath() + "/test"
	if test == "" {
		return Scope(module)
	}
	return Scope(module + "::" + strings.ReplaceAll(test, "/", "::"))
}

func attach(test, name string, options []Option) (*View, error) {
	c, err := processConn()
	if err != nil {
		return nil, err
	}
	return c.Attach(context.Background(), name, append([]Option{Test(test), scopeOf(test)}, options...)...)
}

func hold(test, name string) (*View, error) {
	kept.Lock()
	if kept.views == nil {
		kept.views = map[string]*keptView{}
	}
	k := kept.views[name]
	if k == nil {
		k = &keptView{}
		kept.views[name] = k
	}
	kept.Unlock()
	k.Lock()
	defer k.Unlock()
	if k.view == nil {
		v, err := attach(test, name, nil)
		if err != nil {
			return nil, err
		}
		k.view = v
	}
	return k.view, nil
}

// Get attaches a fixture for the life of the test binary: once, however many tests ask for it, read-only. What it costs is told in
// microseconds unless it has to be built. If it cannot be had the test fails, with the daemon's sentence.
//
// For a fixture of the scope of a class or function it is that of the test which asks first: see Own.
func Get(t TB, name string) *View {
	t.Helper()
	v, err := hold(t.Name(), name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Hold is Get where there is no test, as in TestMain: its lease lasts as long as the test binary, whose tests have the same view from
// Get, and it is never to be detached. Without a daemon, or when the fixture cannot be had, it returns the reason, and the next call
// tries again.
func Hold(name string) (*View, error) { return hold("", name) }

// Own attaches a fixture for the life of the test: of a service with clones a pristine server of its own, and with Private bytes that
// it may write to. It is detached by t.Cleanup.
func Own(t TB, name string, options ...Option) *View {
	t.Helper()
	v, err := attach(t.Name(), name, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Detach)
	return v
}
