// SPDX-License-Identifier: MIT

package fixd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// With a daemon on testdata/fixd.ini; tests/daemon/go.py starts it.
func open(t *testing.T) *Conn {
	t.Helper()
	if os.Getenv("FIXD_SOCKET") == "" {
		t.Skip("FIXD_SOCKET is not set")
	}
	c, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func must(t *testing.T, c *Conn, name string, options ...Option) *View {
	t.Helper()
	v, err := c.Attach(context.Background(), name, options...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestReadOnly(t *testing.T) {
	v := must(t, open(t), "corpus")
	defer v.Detach()
	if v.String() != "apple\nbanana\ncherry\n" || v.Generation() != 1 || !v.Current() || v.Path() != "" || len(v.Digest()) != 32 {
		t.Errorf("%q, generation %d, current %v, path %q, digest %s", v, v.Generation(), v.Current(), v.Path(), v.Digest())
	}
}

func TestPrivate(t *testing.T) {
	c := open(t)
	v, other := must(t, c, "corpus", Private(), Test(t.Name())), must(t, c, "corpus", Private())
	defer v.Detach()
	defer other.Detach()
	for i := 0; i < 2; i++ {
		copy(v.Bytes(), "APPLE")
		if v.String()[:5] != "APPLE" || other.String()[:5] != "apple" {
			t.Errorf("%q, %q", v, other)
		}
		if err := v.Reset(); err != nil || v.String()[:5] != "apple" {
			t.Errorf("%v, %q", err, v)
		}
	}
}

func TestTree(t *testing.T) {
	v := must(t, open(t), "list")
	words, err := os.ReadFile(filepath.Join(v.Path(), "words"))
	if err != nil || string(words) != "apple\nbanana\n" {
		t.Errorf("%q, %v", words, err)
	}
	v.Detach()
	v.Detach()
}

func TestObjects(t *testing.T) {
	c := open(t)
	type node struct {
		next  *node
		value int
	}
	sum := 0
	v, again := must(t, c, "graph"), must(t, c, "graph")
	for n := (*node)(v.Root()); n != nil; n = n.next {
		sum += n.value
	}
	if sum != 6 || again.Root() != v.Root() {
		t.Errorf("%d, %p and %p", sum, v.Root(), again.Root())
	}
	if _, err := c.Attach(context.Background(), "graph", Private()); !errors.Is(err, syscall.EBUSY) {
		t.Error(err)
	}
	v.Detach()
	again.Detach()
	v = must(t, c, "graph", Private())
	(*node)(v.Root()).next.value = 100
	if _, err := c.Attach(context.Background(), "graph", Private()); !errors.Is(err, syscall.EBUSY) {
		t.Error(err)
	}
	if err := v.Reset(); err != nil || (*node)(v.Root()).next.value == 100 {
		t.Error(err)
	}
	v.Detach()
}

func TestEachHasAClone(t *testing.T) {
	c := open(t)
	a, b := must(t, c, "own"), must(t, c, "own")
	if a.String() == b.String() {
		t.Errorf("both have %s", a)
	}
	if err := os.Remove(filepath.Join(a.String(), "words")); err != nil {
		t.Error(err)
	}
	a.Detach()
	if next := must(t, c, "own"); !isThere(filepath.Join(next.String(), "words")) {
		t.Error("it is used")
	}
	b.Detach()
}

func TestErrors(t *testing.T) {
	c := open(t)
	for _, e := range []struct {
		name     string
		errno    syscall.Errno
		sentence string
	}{
		{"broken", syscall.EIO, "there is no such word"},
		{"nothing", syscall.ENOENT, "nothing"},
		{"", syscall.EINVAL, "1 to 255 bytes"},
		{strings.Repeat("x", 256), syscall.EINVAL, "1 to 255 bytes"},
	} {
		if _, err := c.Attach(context.Background(), e.name); !errors.Is(err, e.errno) || !strings.Contains(err.Error(), e.sentence) {
			t.Errorf("%s: %v", e.name, err)
		}
	}
	if _, err := Open("/nowhere/socket"); !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "no daemon at /nowhere/socket") {
		t.Error(err)
	}
	c.Close()
	if _, err := c.Attach(context.Background(), "corpus"); !errors.Is(err, syscall.ENOTCONN) {
		t.Error(err)
	}
}

func TestWaitIsLimited(t *testing.T) {
	c := open(t)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	_, err := c.Attach(ctx, "slow")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "slow") {
		t.Error(err)
	}
	cancel()
	ctx, cancel = context.WithCancel(context.Background())
	failed := make(chan error)
	go func() {
		_, err := c.Attach(ctx, "slow")
		failed <- err
	}()
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	t.Setenv("FIXD_TIMEOUT", "soon")
	if _, err := Open(""); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
}

func TestVariables(t *testing.T) {
	c := open(t)
	for _, value := range []string{"one", "two", "two"} {
		t.Setenv("FIXD_TEST_VALUE", value)
		v := must(t, c, "named")
		if v.String() != value {
			t.Errorf("%s, not %s", v, value)
		}
		v.Detach()
	}
}

func TestDisabled(t *testing.T) {
	t.Setenv("FIXD_DISABLE", "1")
	c, err := Open("/nowhere")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Attach(context.Background(), "corpus"); !errors.Is(err, syscall.ECANCELED) {
		t.Error(err)
	}
}

func TestAtOnce(t *testing.T) {
	c := open(t)
	var all sync.WaitGroup
	for i := 0; i < 50; i++ {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			v, err := c.Attach(context.Background(), "corpus", Test(fmt.Sprint("test ", i)))
			if err != nil || v.String()[:5] != "apple" {
				t.Error(err)
				return
			}
			v.Detach()
		}(i)
	}
	all.Wait()
}

func TestLostDaemon(t *testing.T) {
	c := open(t)
	v := must(t, c, "corpus")
	c.link.end(fail(syscall.ECONNRESET, "lost"))
	if v.Current() || v.String()[:5] != "apple" {
		t.Errorf("current %v, %q", v.Current(), v)
	}
	v.Detach()
	must(t, c, "corpus").Detach()
}

func TestGetAndOwn(t *testing.T) {
	open(t)
	var own *View
	t.Run("inner", func(t *testing.T) {
		if Get(t, "corpus") != Get(t, "corpus") {
			t.Error("it is attached twice")
		}
		if key := Own(t, "key").String(); key != "./test::TestGetAndOwn" {
			t.Error(key)
		}
		own = Own(t, "corpus", Private())
		own.Bytes()[0] = 'A'
	})
	if own.mappings != nil || Get(t, "corpus").String()[0] != 'a' {
		t.Error("it is still attached")
	}
}

func TestHold(t *testing.T) {
	open(t)
	v, err := Hold("key")
	if err != nil || v.String() != "./test" || Get(t, "key") != v {
		t.Error(v, err)
	}
	if _, err := Hold("nothing"); !errors.Is(err, syscall.ENOENT) {
		t.Error(err)
	}
}
